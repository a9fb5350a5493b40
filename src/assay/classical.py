"""The classical diagnostics of least squares, as regression textbooks and statsmodels define them.

With residuals `e = √w (y − ŷ)`, leverage `h`, p parameters, n samples of positive weight and `s² = Σ e² / (n − p)`;
`s₍ᵢ₎² = (Σ e² − e_i² / (1 − h_i)) / (n − p − 1)` is the same without sample i.

Cook (1977), "Detection of influential observation in linear regression"; Belsley, Kuh & Welsch (1980), "Regression
diagnostics", chapter 2. `Leverage.cooks_distance` is another scale: `gᵀH⁻¹g` in units of the loss, of any family.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .errors import ShapeError
from .families import Linear
from .leverage import Leverage
from .scores import SOLE


@dataclass(frozen=True)
class Classical:
    """Diagnostics of n samples, float64, in the order of `ids`; `[n]`, and with several outputs `[n, outputs]`.

    NaN where a sample has leverage one and alone determines a parameter; `sole` `[n]` marks those. `parameters` is p,
    `samples` n, which counts rows of positive weight.

    - `leverage` `h_i = w xᵀ(XᵀWX)⁻¹x`, in [0, 1]; sums to p.
    - `residuals` `e_i`, in units of the target.
    - `studentised` `e_i / (s √(1 − h_i))`; `externally_studentised` `e_i / (s₍ᵢ₎ √(1 − h_i))`.
    - `cooks_distance` `e_i² h_i / (p s² (1 − h_i)²)`.
    - `dffits` `e_i √h_i / (s₍ᵢ₎ (1 − h_i))`: shift of the own prediction in its standard deviations.
    - `dfbetas` `[n, columns]` (`[n, outputs, columns]`): shift `θ − θ₍ᵢ₎` of each weight in its standard deviations
      `s₍ᵢ₎ √((XᵀWX)⁻¹)_jj`, in the units of the original columns, bias last; NaN for a column that never varies.
    - `covariance_ratio` `(s₍ᵢ₎² / s²)ᵖ / (1 − h_i)`: volume of the confidence ellipsoid without i over that with it.
    """

    ids: pa.Array
    parameters: int
    samples: int
    leverage: Float[Tensor, " n"]
    residuals: Float[Tensor, "n ..."]
    studentised: Float[Tensor, "n ..."]
    externally_studentised: Float[Tensor, "n ..."]
    cooks_distance: Float[Tensor, "n ..."]
    dffits: Float[Tensor, "n ..."]
    dfbetas: Float[Tensor, "n ... columns"]
    covariance_ratio: Float[Tensor, "n ..."]

    @property
    def sole(self) -> Bool[Tensor, " n"]:
        """Which samples have leverage one."""
        return 1 - self.leverage <= SOLE


def classical_diagnostics(leverage: Leverage) -> Classical:
    """The classical diagnostics of a linear head without a penalty; O(n d²) time.

    Weights are precisions, as in weighted least squares. Raises `ShapeError` for another family, for l2 > 0 (where the
    textbook's distributions do not hold), and where there are no more than p + 1 samples.
    """
    n, p = _checked(leverage)
    w, h = leverage.w[:, None], leverage.scores.leverage[:, None] / leverage.family.K
    e = w.sqrt() * (leverage.y - leverage.H @ leverage.V.T)
    left = (1 - h).masked_fill(1 - h <= SOLE, torch.nan)
    total = e.square().sum(0)
    s2 = total / (n - p)
    without = (total - e.square() / left) / (n - p - 1)
    inverse = leverage.design.original_units(leverage.curvature.inverse)
    spread = leverage.design.original_units(inverse.T).diagonal().sqrt()
    shown = [
        e,
        e / (s2 * left).sqrt(),
        e / (without * left).sqrt(),
        e.square() * h / (p * s2 * left.square()),
        e * h.sqrt() / (without.sqrt() * left),
        leverage.dfbeta() / (without.sqrt()[:, :, None] * spread),
        (without / s2) ** p / left,
    ]
    if leverage.family.K == 1:
        shown = [values[:, 0] for values in shown]
    return Classical(leverage.ids, p, n, h[:, 0], *shown)


def classical_cooks_distance(leverage: Leverage) -> Float[Tensor, "n ..."]:
    """Cook's distance as textbooks scale it, `e_i² h_i / (p s² (1 − h_i)²)`; see `Classical`."""
    return classical_diagnostics(leverage).cooks_distance


def _checked(leverage: Leverage) -> tuple[int, int]:
    """Samples and parameters."""
    if not isinstance(leverage.family, Linear):
        raise ShapeError(
            f"classical diagnostics are those of least squares, and this head is {leverage.family.name}; "
            "its own are leverage(), cooks_distance(), leave_one_out() and dfbeta()"
        )
    if bool((leverage.curvature.penalty > 0).any()) or leverage.l1:
        raise ShapeError("classical diagnostics are those of least squares without a penalty; fit the head with l2=0")
    n, p = int((leverage.w > 0).sum()), len(leverage.curvature.penalty)
    if n <= p + 1:
        raise ShapeError(f"{n} samples for {p} parameters leave no degree of freedom to judge one without; add samples")
    return n, p
