"""Influence for any parameters of any network: `Influence(net, loss, data, params="layer4", inverse=CG(1e-3))`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..curvature.auto import Chosen
from ..curvature.cg import CG
from ..curvature.gradients import along, every_gradient, gradients
from ..curvature.inverse import Diagnosis, Inverse, Inverted, Solution, concatenated
from ..curvature.objective import BUDGET, NetworkObjective
from ..curvature.output_loss import OnModel, output_loss
from ..curvature.parameters import choose
from ..curvature.products import GaussNewton, Hessian, Operator
from ..curvature.reading import Reading
from ..curvature.stated_error import ROWS, StatedError, stated_error
from ..errors import AssayWarning, ShapeError, SingularCurvatureError, UnknownIdError
from ..sources.identity import ids_of_type
from ..sources.open_examples import open_examples
from .network_results import NetworkGroup, NetworkInfluences, RelatIF, SelfInfluence, read_batch
from .pairs import TopInfluences, check_top_k
from .removal import refuse_repeated

LIMIT = 0.2  # median relative error above which an approximation is warned of


class Influence:
    """Influence of training samples through the chosen parameters θ of a network, everything else held fixed.

    `I(i, t) = ∇ℓ_tᵀ (H + damping I)⁻¹ ∇ℓ_i` with H the curvature of `F(θ) = (1/N) Σ w_i ℓ_i(θ) + ½ Σ l2 θ²`. Positive:
    removing i raises the loss at t by about `w_i I / N`.

    - `model` is run in `eval()` and left as it is; `loss` is a torch loss, a family's name, a function `(output,
      target) → [batch]`, or `OnModel(function)` for one of `(model, (inputs, targets))`.
    - `data`: what `audit` takes for a network (a data set, a loader, `(X, y)`, a folder of images); `ids`, `weights`
      one a sample.
    - `params`: see `choose`. `inverse`: `CG`, `Dense`, `Nystrom`, `Arnoldi`, `LiSSA`, `KFAC`, `EKFAC` or `Auto`.
    - `curvature`: `Hessian` or `GaussNewton`; by default what the inverse is natural for (the Hessian for Dense, CG,
      LiSSA, Arnoldi; the Gauss-Newton matrix for the others).
    - `l2`: the weight decay of the training, one for all or by name or pattern. It is in H and not in the gradients.
    - `sample`: rows of a seeded subsample over which curvature is summed, where all are too many.
    - `budget`: bytes for one pass; it sets how many samples and vectors go through the network together.
    - `check`: samples on which an approximation's error is measured (0: none); a median above `limit` is warned of.

    Nothing is computed until it is asked for. Raises `ShapeError`, `SourceError` for what does not fit together.

    Source: Koh & Liang 2017; Picard et al., "Influence functions for dataset exploration and cleaning".
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Any,
        data: Any,
        *,
        params: Any = None,
        inverse: Inverse | None = None,
        curvature: Operator | None = None,
        l2: float | Mapping[str, float] = 0.0,
        weights: Any = None,
        ids: Any = None,
        sample: int | None = None,
        seed: int = 0,
        budget: int = BUDGET,
        check: int = ROWS,
        limit: float = LIMIT,
    ) -> None:
        if budget < 1 or check < 0:
            raise ShapeError(
                f"budget={budget}, check={check}; give bytes, and a number of samples that is not negative"
            )
        parameters = choose(model, params)
        like = next(value for name, value in model.named_parameters() if name == parameters.names[0]).detach()
        parsed = loss if isinstance(loss, OnModel) else output_loss(loss)
        class_weight, ignored = (None, None) if isinstance(parsed, OnModel) else (parsed.class_weight, parsed.ignored)
        reading = Reading(open_examples(data, ids=ids, weights=weights), like, class_weight, ignored)
        penalty = parameters.coefficients(l2).to(like.device)
        self.objective = NetworkObjective(model, parsed, reading, parameters, penalty, budget)
        self.objective.check()
        self.inverse: Inverse = CG() if inverse is None else inverse
        self.kind: Operator = curvature or self.inverse.natural
        self.seed, self.sample, self.rows, self.limit = seed, sample, check, limit

    @property
    def ids(self) -> pa.Array:
        """Of the training samples, in order."""
        return self.objective.reading.ids

    @cached_property
    def curvature(self) -> Hessian | GaussNewton:
        """The operator, over all samples or the subsample."""
        if self.sample is None:
            return self.kind(self.objective)
        reading = self.objective.reading.sampled(self.sample, self.seed)
        return self.kind(replace(self.objective, reading=reading))

    @cached_property
    def inverted(self) -> Inverted:
        """The inverse of it."""
        return self.inverse.of(self.curvature)

    @property
    def choice(self) -> Chosen | None:
        """What `Auto` tried and took; None where the inverse was given."""
        return self.inverted if isinstance(self.inverted, Chosen) else None

    @cached_property
    def error(self) -> StatedError | None:
        """How far the inverse is from tightly solved answers; None for an exact one, or where that has no meaning."""
        if isinstance(self.inverted, Chosen):
            return self.inverted.error
        if not self.inverse.approximate or not self.rows:
            return None
        try:
            found = stated_error(self.inverted, self.curvature, self.inverse.damping, rows=self.rows, seed=self.seed)
        except SingularCurvatureError as cause:
            warnings.warn(f"the error of {type(self.inverse).__name__} cannot be measured: {cause}", AssayWarning, 3)
            return None
        if found.median > self.limit:
            warnings.warn(
                f"{type(self.inverse).__name__} is far off. {found.sentence} Give another inverse=, or Auto(rtol=…)",
                AssayWarning,
                3,
            )
        return found

    def diagnose(self) -> Diagnosis:
        """What the inverse found, over which samples, with its stated error."""
        found, said = self.inverted.diagnose(), ()
        if self.sample is not None:
            said = (f"Curvature summed over {self.sample:,} of {len(self.ids):,} samples (seed {self.seed}).",)
        if self.error is not None:
            said = (*said, self.error.sentence)
        return replace(found, sentences=(*found.sentences, *said))

    def self_influence(self) -> SelfInfluence:
        """Cook's distance `g_iᵀ (H + damping I)⁻¹ g_i` of every sample for these parameters."""
        found = self._own
        return SelfInfluence(self.ids, found.value.cpu(), found.iterations, found.residual, found.converged, self.error)

    @cached_property
    def _own(self) -> Solution:
        layered = self.inverted.self_influence(self.objective)
        if layered is not None:
            return layered
        inverted = self.inverted.for_many(len(self.ids))
        return concatenated(inverted.quadratic(G) for G in every_gradient(self.objective))

    def losses(self) -> Float[Tensor, " n"]:
        """`ℓ_i` of every sample as the network is, float64."""
        objective = self.objective
        found = objective.over(
            objective.activation_bytes, lambda b: objective.losses(objective.theta, b.inputs, b.targets).double()
        )
        return torch.cat(list(found)).cpu()

    def on(self, batch: Any, *, top_k: int = 20, relative: RelatIF | None = None) -> NetworkInfluences:
        """The training samples that most support and most oppose each sample of a batch `(inputs, targets)`.

        Solved for the m test gradients once; then one pass of directional derivatives over the training samples, whose
        own gradients are not formed. `relative` divides by each training sample's own effect. Raises `ShapeError`.
        """
        check_top_k(top_k)
        solved = self.inverted.solve(self._gradients(batch))
        scale = None if relative is None else self._own_effect(relative)
        top, first = TopInfluences(top_k), 0
        for values in along(self.objective, solved.value):
            rows = slice(first, first + len(values))
            shown = values.cpu() if scale is None else values.cpu() / scale[rows, None]
            top.add(shown, first, self.ids[rows])
            first += len(values)
        return NetworkInfluences(
            top.result(self.ids.type), solved.iterations, solved.residual, solved.converged, self.error, relative
        )

    def group(self, ids: Sequence[Any], *, order: int = 2) -> NetworkGroup:
        """The shift `θ_{−U} − θ` that removing these samples together causes.

        First order `x₁ = (N H)⁻¹ Σ_U w g`; second `x₂ = x₁ + (N H)⁻¹ H_U x₁`, `H_U = Σ_U w ∇²ℓ` (Basu et al. 2020).
        Raises `UnknownIdError`, `ShapeError` for ids that repeat or another order.
        """
        if order not in (1, 2):
            raise ShapeError(f"order={order!r} is not 1 or 2; a refit of a network is a training")
        batch = self.objective.reading.at(self._positions(ids))
        N = self.objective.total_weight
        G = batch.weights @ gradients(self.objective, batch)
        first = self.inverted.solve(G[None])
        shift, solved = first.value / N, [first]
        if order == 2:
            curved = self.kind(self.objective).on(batch, shift)
            solved.append(self.inverted.solve(curved))
            shift = shift + solved[-1].value / N
        both = concatenated(solved)
        return NetworkGroup(
            ids=ids_of_type(ids, self.ids.type),
            order=order,
            shift=shift[0],
            share=float(batch.weights.sum()) / N,
            cooks_distance=float(G @ first.value[0]),
            residual=float(both.residual.max()),
            converged=bool(both.converged.all()),
            objective=self.objective,
        )

    def _gradients(self, batch: Any) -> Float[Tensor, "m P"]:
        return torch.cat(list(every_gradient(read_batch(self.objective, batch))))

    def _own_effect(self, relative: RelatIF) -> Float[Tensor, " n"]:
        if relative is RelatIF.LOSS:
            own = self._own.value.cpu()
            if len(below := (own < 0).nonzero()):
                raise SingularCurvatureError(
                    f"{self.objective.reading.examples.where(int(below[0]))} has the self-influence "
                    f"{float(own[below[0]]):.2e}, below zero, as {len(below)} of {len(own)} have: it has no root to "
                    "divide by; raise damping=, give curvature=GaussNewton, or RelatIF.THETA",
                    size=self.objective.P,
                )
            return own.clamp(min=1e-300).sqrt()
        inverted = self.inverted.for_many(len(self.ids))
        norms = [inverted.solve(G).value.norm(dim=1) for G in every_gradient(self.objective)]
        return torch.cat(norms).cpu().clamp(min=1e-300)

    def _positions(self, ids: Sequence[Any]) -> list[int]:
        if not len(ids):
            raise UnknownIdError("no ids given: a group has at least one sample")
        refuse_repeated(ids)
        found = pc.index_in(ids_of_type(ids, self.ids.type), self.ids).to_pylist()
        for id_, position in zip(ids, found, strict=True):
            if position is None:
                raise UnknownIdError(f"id {id_!r} is not among the {len(self.ids)} samples")
        return found
