"""Kronecker-factored curvature: one pair of small matrices a layer, `G_l ≈ B ⊗ A`, and the eigenvalue correction.

    A = (1/N T) Σ_i w_i Σ_t a aᵀ     B = (1/N) Σ_i w_i Σ_t Σ_r g_r g_rᵀ        g_r the derivative under the roots of S
    KFAC    Q (Λ_B ⊗ Λ_A) Qᵀ,  Q = Q_B ⊗ Q_A                                    Martens & Grosse 2015
    EKFAC   Q Λ Qᵀ,  Λ = (1/N) Σ_i w_i Σ_r (Q_Bᵀ (Σ_t g_r aᵀ) Q_A)²            George et al. 2018

A normalisation (γ, β) is a block of its own, kept whole: `(1/N) Σ w Σ_r j_r j_rᵀ` of its few gradients j.

Both approximate the Gauss-Newton matrix layer by layer; EKFAC's diagonal is the best there is in KFAC's eigenbasis, so
it is never further from it in the Frobenius norm. The penalty is added in that basis, damping to all of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ShapeError, SingularCurvatureError
from .eigenbasis import Basis, Turned, basis_of, moment
from .inverse import Cost, Diagnosis, Inverted, Sizes, Solution, check_damping, concatenated
from .layers import Layer, Recorded, check_layers, layers_of, recorded
from .objective import NetworkObjective
from .output_loss import OnModel
from .products import FIXED, GaussNewton, Hessian, Operator
from .random_signs import combined
from .reading import Batch
from .sums import Checkpoint, Sums, summed

EXACT = 64  # outputs up to which all of them are summed over; beyond, one random direction a sample


@dataclass(frozen=True)
class KFAC:
    """The inverse by Kronecker factors of `nn.Linear` and `nn.Conv2d` layers, and by the blocks of normalisations.

    Outputs are summed over exactly up to 64 of them, else sampled: `draws` random directions of covariance S a sample
    (None: exact where that is cheap). `checkpoint` keeps the sums of a long computation.
    """

    damping: float = 0.0
    draws: int | None = None
    seed: int = 0
    checkpoint: Checkpoint | None = None
    approximate: ClassVar[bool] = True
    natural: ClassVar[Operator] = GaussNewton
    corrected: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_damping(self.damping)
        if self.draws is not None and self.draws < 1:
            raise ShapeError(f"draws={self.draws}; give at least one, or None")

    def cost(self, sizes: Sizes) -> Cost:
        directions = self.draws or (sizes.outputs if sizes.outputs <= EXACT else 1)
        passes = (1 + directions) * (2 if self.corrected else 1) + 2
        return Cost(passes * sizes.n * sizes.gradient_flops, 8.0 * 6 * sizes.P)

    def of(self, curvature: Hessian | GaussNewton) -> Kronecker:
        """One pass over the data for the factors, another for EKFAC's eigenvalues; raises `ShapeError`."""
        objective = curvature.objective
        if isinstance(objective.loss, OnModel):
            GaussNewton(objective)  # says why not
        layers = layers_of(objective.model, objective.parameters)
        check_layers(objective, layers)
        told = f"{self.draws} {self.seed}"
        room = layer_bytes(objective, layers)
        sums = summed(
            objective, room, partial(self._factors, objective, layers), stage="factors", told=told,
            checkpoint=self.checkpoint,
        )  # fmt: skip
        bases = tuple(basis_of(sums, k, objective.total_weight) for k in range(len(layers)))
        if self.corrected:
            found = summed(
                objective, room, partial(self._squares, objective, layers, bases), stage="eigenvalues", told=told,
                checkpoint=self.checkpoint,
            )  # fmt: skip
            values = tuple(found[f"{k}"] / objective.total_weight for k in range(len(layers)))
        else:
            values = tuple(torch.outer(basis.values_b, basis.values_a).clamp(min=0) for basis in bases)
        return Kronecker(type(self).__name__, objective, layers, bases, values, self.damping)

    def _directions(self, record: Recorded, again: bool = False) -> list[Float[Tensor, "b C"]]:
        """The roots of S to go back from: all, or random ones (others `again`, not those that chose the basis)."""
        loss = record.objective.loss
        assert not isinstance(loss, OnModel)
        roots = loss.roots(record.z.detach(), record.batch.targets)
        if self.draws is None and roots.shape[1] <= EXACT:
            return list(roots.unbind(1))
        draws = self.draws or 1
        seeds = range(self.seed + draws * again, self.seed + draws * (1 + again))
        return [combined(roots, record.batch.first, seed) / draws**0.5 for seed in seeds]

    def _factors(self, objective: NetworkObjective, layers: tuple[Layer, ...], batch: Batch) -> Sums:
        record = recorded(objective, layers, batch)
        sums: Sums = {}
        w = batch.weights.to(objective.dtype)
        N = batch.weights.sum()
        whole = {k: record.inputs(k) for k, layer in enumerate(layers) if not layer.factored}
        for k in range(len(layers)):
            if k in whole:
                sums[f"t{k}"], sums[f"b{k}"] = N, N[None, None]
                continue
            a = record.inputs(k)
            sums[f"a{k}"] = moment(a, w)
            sums[f"t{k}"] = N * a.shape[1]
        for u in self._directions(record):
            for k, g in enumerate(record.of_outputs(u)):
                name, x = (f"a{k}", layers[k].gradients(g, whole[k])) if k in whole else (f"b{k}", g)
                sums[name] = sums.get(name, 0.0) + moment(x, w)
        objective.refuse_nonfinite(batch, torch.stack([total.sum() for total in sums.values()]))
        return sums

    def _squares(
        self, objective: NetworkObjective, layers: tuple[Layer, ...], bases: tuple[Basis, ...], batch: Batch
    ) -> Sums:
        record = recorded(objective, layers, batch)
        w = batch.weights.to(objective.dtype)
        directions = self._directions(record, again=True)
        turned = [Turned.of(layer, bases[k], record.inputs(k), len(directions)) for k, layer in enumerate(layers)]
        sums: Sums = {}
        for u in directions:
            for k, g in enumerate(record.of_outputs(u)):
                sums[f"{k}"] = sums.get(f"{k}", 0.0) + turned[k].squares(g, w)
        return sums


@dataclass(frozen=True)
class EKFAC(KFAC):
    """KFAC with the exact diagonal in its eigenbasis; two passes over the data instead of one. See `KFAC`."""

    corrected: ClassVar[bool] = True


def layer_bytes(objective: NetworkObjective, layers: tuple[Layer, ...]) -> float:
    """Bytes a sample takes on its way through the layers, roughly."""
    batch = next(objective.reading.batches()).rows(0, 1)
    with objective.evaluating():
        record = recorded(objective, layers, batch)
        shapes = [record.inputs(k).shape for k in range(len(layers))]
        C = record.z.numel()
    places = [T * (c + layer.out) for layer, (_, T, c) in zip(layers, shapes, strict=True)]
    outer = [layer.out * c if T > 1 else 0 for layer, (_, T, c) in zip(layers, shapes, strict=True)]
    size = torch.finfo(objective.dtype).bits // 8
    return FIXED * objective.activation_bytes + size * (2.0 * sum(places) + 4.0 * max(outer) + C * min(C, 1024) * 3.0)


@dataclass(frozen=True)
class Kronecker(Inverted):
    """`Q (Λ + D + damping)⁻¹ Qᵀ` of each layer; D is the penalty seen in the eigenbasis."""

    method: str
    objective: NetworkObjective
    layers: tuple[Layer, ...]
    bases: tuple[Basis, ...]
    values: tuple[Float[Tensor, "_ _"], ...]
    damping: float

    def __post_init__(self) -> None:
        eps = torch.finfo(self.objective.dtype).eps
        for layer, values, total in zip(self.layers, self.values, self.denominators(), strict=True):
            bare = float((total - values).min()) <= 1e-14 * float(total.max())  # neither damped nor penalised
            if bare and float(total.min()) <= eps * float(total.max()):
                raise SingularCurvatureError(
                    f"{self.method}: the curvature of {layer.name!r} is singular (smallest eigenvalue "
                    f"{float(total.min()):.1e}); give damping= or l2=",
                    size=self.objective.P,
                )

    def denominators(self) -> list[Float[Tensor, "_ _"]]:
        """`Λ + D + damping` of each layer; D is `Σ_j Q_A[j, :]² l2_j`."""
        penalties = self.objective.parameters.split(self.objective.l2[None])
        return [
            values + self.damping + layer.matrix(penalties)[0] @ basis.Q_a.square()
            for layer, basis, values in zip(self.layers, self.bases, self.values, strict=True)
        ]

    def solve(self, V: Float[Tensor, "m P"]) -> Solution:
        parts = self.objective.parameters.split(V)
        found: dict[str, Tensor] = {}
        for layer, basis, total in zip(self.layers, self.bases, self.denominators(), strict=True):
            turned = basis.Q_b.T @ layer.matrix(parts) @ basis.Q_a
            found |= layer.parts(basis.Q_b @ (turned / total) @ basis.Q_a.T)
        return Solution.direct(self.objective.parameters.join(found))

    def self_influence(self, objective: NetworkObjective) -> Solution:
        """`gᵀ(·)⁻¹g` of every sample from its activations and output gradients; no gradient is formed."""
        inverses = [(1 / total).to(objective.dtype) for total in self.denominators()]

        def run(batch: Batch) -> Solution:
            record = recorded(objective, self.layers, batch)
            value = torch.zeros(len(batch), dtype=torch.float64, device=objective.l2.device)
            for k, g in enumerate(record.of_losses()):
                turned = Turned.of(self.layers[k], self.bases[k], record.inputs(k), 1)
                value += turned.forms(g, inverses[k]).double()
            return Solution.direct(value)

        return concatenated(objective.over(layer_bytes(objective, self.layers), run))

    def matrix(self) -> Float[Tensor, "P P"]:
        """The approximated curvature itself, penalty included; for small P."""
        eye = torch.eye(self.objective.P, dtype=torch.float64)
        parts = self.objective.parameters.split(eye)
        found: dict[str, Tensor] = {}
        for layer, basis, total in zip(self.layers, self.bases, self.denominators(), strict=True):
            turned = (basis.Q_b.T @ layer.matrix(parts) @ basis.Q_a) * (total - self.damping)
            found |= layer.parts(basis.Q_b @ turned @ basis.Q_a.T)
        return self.objective.parameters.join(found)

    def diagnose(self) -> Diagnosis:
        """Layers and the extremes of their eigenvalues."""
        least = min(float(values.min()) for values in self.values)
        most = max(float(values.max()) for values in self.values)
        return Diagnosis(
            self.method,
            (f"{len(self.layers)} layers, each apart from the others: what they share is left out.",),
            {"layers": len(self.layers), "smallest": least, "largest": most},
        )
