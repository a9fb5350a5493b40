"""How exact an inverse is: its quadratic forms on a seeded sample of gradients against tightly solved ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .cg import CG, CGInverse
from .gradients import sampled_gradients
from .inverse import Inverted
from .kfac import Kronecker
from .low_rank import LowRank
from .products import GaussNewton, Hessian

ROWS = 32


@dataclass(frozen=True)
class StatedError:
    """Errors of `gᵀ(H + damping I)⁻¹g` on `rows` samples against conjugate gradients of relative residual `residual`.

    `median` and `p95` are of `|a − e| / |e|`; `rank_correlation` is Spearman's; `scale` is the best-fit `Σ a e / Σ e²`,
    1 where the numbers are right and not only their order. `curvature` is the operator compared with.
    """

    rows: int
    median: float
    p95: float
    rank_correlation: float
    scale: float
    residual: float
    curvature: str

    @classmethod
    def between(
        cls, approximate: Float[Tensor, " m"], exact: Float[Tensor, " m"], residual: float, curvature: str
    ) -> StatedError:
        """From scores of the same samples by both."""
        a, e = approximate.cpu(), exact.cpu()
        relative = (a - e).abs() / e.abs().clamp(min=1e-300)
        return cls(
            len(a), float(relative.median()), float(relative.quantile(0.95)), _spearman(a, e),
            float((a @ e) / (e @ e).clamp(min=1e-300)), residual, curvature,
        )  # fmt: skip

    @property
    def sentence(self) -> str:
        """In words."""
        return (
            f"On {self.rows} samples, against conjugate gradients on the {self.curvature} (residual "
            f"{self.residual:.0e}): median error {self.median:.2%}, 95 % within {self.p95:.2%}, rank correlation "
            f"{self.rank_correlation:.3f}, scale {self.scale:.3f}."
        )


def stated_error(
    inverted: Inverted, curvature: Hessian | GaussNewton, damping: float, *, rows: int = ROWS, seed: int = 0
) -> StatedError:
    """Measures one; an approximation that is itself positive definite preconditions its own check.

    Raises `SingularCurvatureError` where the operator is not positive definite, and nothing can be compared with.
    """
    G = sampled_gradients(curvature.objective, rows, seed)
    preconditioner = inverted if isinstance(inverted, Kronecker | LowRank) else None
    tight = CGInverse(CG(damping=damping), curvature, preconditioner).quadratic(G)
    found = inverted.quadratic(G).value
    return StatedError.between(found, tight.value, float(tight.residual.max()), curvature.name)


def _spearman(a: Float[Tensor, " m"], b: Float[Tensor, " m"]) -> float:
    from scipy.stats import rankdata

    ranks = torch.from_numpy(np.stack([rankdata(a.numpy()), rankdata(b.numpy())]))  # equal scores share a rank
    return float(torch.corrcoef(ranks)[0, 1]) if len(a) > 1 else 1.0
