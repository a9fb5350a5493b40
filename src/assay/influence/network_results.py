"""What an `Influence` answers with: ids, sign, unit, and how well each answer is solved."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, ClassVar

import pyarrow as pa
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ..curvature.gradients import along
from ..curvature.objective import NetworkObjective
from ..curvature.reading import Reading
from ..curvature.stated_error import StatedError
from ..sources.open_examples import open_examples
from .pairs import Influences, Ranking

UNIT = "the unit of the loss (nats for cross-entropy)"


class RelatIF(Enum):
    """Influence per unit of a training sample's own effect, so that outliers do not lead every list.

    LOSS: `I(i, t) / √(g_iᵀ H⁻¹ g_i)`; THETA: `I(i, t) / ‖H⁻¹ g_i‖`. Barshan, Brunet & Dziugaite 2020, "RelatIF:
    identifying explanatory training samples via relative influence", eqs. 7 and 9.
    """

    LOSS = "loss"
    THETA = "theta"


@dataclass(frozen=True)
class SelfInfluence:
    """Cook's distance `g_iᵀ (H + damping I)⁻¹ g_i` of every sample for the chosen parameters; ≥ 0 for H ≥ 0.

    `D_i / N` is the first-order change of i's own loss when it is removed. `iterations`, `residual`, `converged` say
    how well each is solved (NaN: not measured; for a low-rank inverse the share of the gradient outside its subspace),
    `error` how far a sample of them is from tightly solved ones (None for an inverse that is exact).
    """

    ids: pa.Array
    cooks_distance: Float[Tensor, " n"]
    iterations: Int64[Tensor, " n"]
    residual: Float[Tensor, " n"]
    converged: Bool[Tensor, " n"]
    error: StatedError | None
    unit: ClassVar[str] = UNIT
    sign: ClassVar[str] = "higher: removing the sample moves the model further, in the sample's own loss"

    @property
    def table(self) -> pa.Table:
        """`id` and `cooks_distance`, a row a sample."""
        return pa.table({"id": self.ids, "cooks_distance": self.cooks_distance.numpy()})


@dataclass(frozen=True)
class NetworkInfluences:
    """The strongest supporters and opponents of each of m test samples, and how well those were solved.

    Positive `I(i, t) = ∇ℓ(t)ᵀ H⁻¹ ∇ℓ(i)`: removing i raises the loss at t by about `w_i I / N`. `relative` is the
    normalisation, None for none.
    """

    influences: Influences
    iterations: Int64[Tensor, " m"]
    residual: Float[Tensor, " m"]
    converged: Bool[Tensor, " m"]
    error: StatedError | None
    relative: RelatIF | None
    unit: ClassVar[str] = UNIT
    sign: ClassVar[str] = "positive: the training sample supports the test sample"

    @property
    def supporters(self) -> tuple[Ranking, ...]:
        """Descending, one ranking a test sample."""
        return self.influences.supporters

    @property
    def opponents(self) -> tuple[Ranking, ...]:
        """Ascending, one ranking a test sample."""
        return self.influences.opponents


@dataclass(frozen=True)
class NetworkGroup:
    """The effect of removing the samples `ids` together, the total penalty held fixed.

    `shift` [P] is the predicted `θ_{−U} − θ` in the chosen parameters, flat (`parts()` by name), of `order` 1 or 2;
    `share` the group's part of the total weight; `cooks_distance` `N G_Uᵀ (N H)⁻¹ G_U`, for a single sample of weight
    one its own.
    """

    ids: pa.Array
    order: int
    shift: Float[Tensor, " P"]
    share: float
    cooks_distance: float
    residual: float
    converged: bool
    objective: NetworkObjective

    def parts(self) -> dict[str, Tensor]:
        """The shift by parameter."""
        return self.objective.parameters.split(self.shift)

    def loss_change(self, batch: Any) -> Float[Tensor, " m"]:
        """`∇ℓ(t)ᵀ shift` of test samples `(inputs, targets)`; positive: without the group the loss there rises."""
        other = read_batch(self.objective, batch)
        return torch.cat(list(along(other, self.shift[None])))[:, 0].cpu()


def read_batch(objective: NetworkObjective, batch: Any) -> NetworkObjective:
    """The objective over other samples."""
    return replace(objective, reading=Reading(open_examples(batch), objective.reading.like))
