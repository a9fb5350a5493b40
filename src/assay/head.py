"""The head: a convex regression from features to outputs, its optimum found by Newton."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor, nn

from .curvature.dense import Curvature, refuse_too_large
from .design import Design
from .elasticnet import active_subspace, minimise
from .encoder import Encoder
from .families import Family, by_column, check_name, family_of
from .head_file import read_head, write_head
from .l2 import L2Path, LeaveOneOutPath, Rows, checked_damping, checked_l1, checked_l2
from .leverage import Leverage
from .newton import Fit, Moments, Objective
from .sources.open import open_source
from .sources.samples import read_features, read_samples, whole
from .sources.scan import merge, scan_shard
from .trained import trained_parts


@dataclass(frozen=True)
class Head:
    """A convex model on features: `z = V h`, at the minimum of `(1/N) Σ w ℓ(z, y) + (λ2/2)‖D V‖² + λ1 ‖D V‖₁`.

    `V` `[K, d]` float64 lives on the columns of `design` (standardised, bias last), in contrasts for a softmax
    (`family.expand` gives the C class logits). `l2` is λ2 and `total_weight` N: their product is the total penalty that
    stays when samples leave, as is N λ1 of an elastic net, whose softmax keeps all C class columns. `gradient_norm`
    against `gradient_scale` says how stationary V is; `decrement` is `∇Fᵀ H⁻¹ ∇F` there. `vocabulary` are the class
    names in code order, None for regression. Features that are given go through `encoder` first, where there is one;
    row weights are times `class_weight`, in code order.

    A trained layer (`from_module`) is no minimum: it keeps its weights, `gradient_norm` says how far from one it is,
    and `damping` may be added to H. What is read from it answers for the *proximal* problem, whose minimum it is: the
    same objective less `⟨tilt, V⟩/N`, tilt its gradient `N ∇F(V)`, damping in F (Bae et al. 2022, "If influence
    functions are the answer, then what is the question?").
    """

    V: Float[Tensor, "K d"]
    family: Family
    design: Design
    l2: float
    total_weight: float
    columns: tuple[str, ...]
    vocabulary: tuple[Any, ...] | None = None
    penalize_bias: bool = False
    iterations: int = 0
    gradient_norm: float = 0.0
    gradient_scale: float = 1.0
    decrement: float = 0.0
    l2_path: L2Path | None = None
    l1: float = 0.0
    encoder: Encoder | None = None
    class_weight: tuple[float, ...] | None = None
    damping: float = 0.0
    tilt: Float[Tensor, "K d"] | None = None

    @classmethod
    def fit(
        cls,
        features: Any,
        labels: Any,
        *,
        family: str = "softmax",
        l2: float | str = "auto",
        l1: float = 0.0,
        weights: Any = None,
        standardize: bool = True,
        bias: bool = True,
        penalize_bias: bool = False,
    ) -> Head:
        """Fits a head in memory, to a gradient norm of 1e-8 of its scale.

        `features` `[n, columns]` and `labels` `[n]` (any hashable class labels; floats `[n]` or `[n, outputs]` for
        `family="linear"`) are arrays or tensors; `weights` `[n]`, a weight of 2 is a row given twice. `l2="auto"`
        minimises the approximate leave-one-out loss along a path. `l1` is λ1: with it the head is an elastic net, some
        of whose weights are exactly zero, and needs λ2 > 0 (the L1 term alone is flat along segments). Columns are
        standardised unless told not to; columns that never vary are left out. Raises `SourceError`,
        `ShapeError` (also where the curvature would not fit into memory), `SeparableError` (l2 = 0 and
        separable classes), `SingularCurvatureError` (l2 = 0 and dependent columns) and `ConvergenceError`.
        """
        check_name(family)
        source = open_source((features, labels), weight=weights, regression=family == "linear")
        scan = merge([scan_shard(source, 0, len(source))], source)
        design = Design.from_moments(scan.mean, scan.scale, scan.constant, standardize=standardize, bias=bias)
        batch = whole(source)
        return cls.fit_rows(
            Rows(design.matrix(batch.x), batch.y, batch.w),
            family_of(source, family),
            design,
            l2=l2,
            l1=l1,
            columns=source.columns,
            vocabulary=source.vocabulary,
            penalize_bias=penalize_bias,
        )

    @classmethod
    def from_sklearn(cls, estimator: Any, features: Any, labels: Any, *, weights: Any = None) -> Head:
        """The head of a fitted scikit-learn estimator: the optimum of the same objective on its training set.

        A LogisticRegression, Ridge, LinearRegression, ElasticNet, one with CV behind its name, or a Pipeline that ends
        in one: then its transforms are the head's `encoder`, and the head takes what the pipeline takes. Penalties and
        class weights are translated (see `assay.from_sklearn`), a frame's columns found by name. Raises `ShapeError`,
        `SourceError` naming what has no equal here; warns where the estimator is far from the optimum.
        """
        from .from_sklearn import encoder_of, say_how_far, translate

        given = translate(estimator, features, labels, weights=weights)
        head = cls.fit(
            given.features, given.labels, family=given.family, l2=given.l2, l1=given.l1, weights=given.weights,
            standardize=False, bias=given.bias,
        )  # fmt: skip
        known = head.probabilities(given.features) if head.family.classifies else head.logits(given.features)
        say_how_far(estimator, given, known.numpy())
        return replace(head, encoder=encoder_of(estimator), class_weight=given.class_weight)

    @classmethod
    def from_module(
        cls,
        layer: nn.Linear,
        features: Any,
        labels: Any,
        *,
        family: str = "softmax",
        l2: float = 0.0,
        damping: float = 0.0,
        penalize_bias: bool = False,
        weights: Any = None,
    ) -> Head:
        """A trained `nn.Linear` as it is, on the features `[n, in]` that came into it in training, and their labels.

        `labels` are integers 0 … C−1 (0 or 1 for one logit), or targets for `family="linear"`. `l2` is λ2 of the
        objective it was trained on (torch's `weight_decay`, which takes the bias too: `penalize_bias=True`); `damping`
        is added to H for every parameter, but not to the objective. `gradient_norm` is that of the objective.
        Raises `ShapeError` where layer, features and labels disagree.
        """
        rows, parts = trained_parts(layer, features, labels, family, weights)
        head = cls(
            **parts, l2=checked_l2(l2), damping=checked_damping(damping), total_weight=float(rows.w.sum()),
            penalize_bias=penalize_bias,
        )  # fmt: skip
        return head.as_trained(rows.sums(head.family))

    def as_trained(self, sums: Callable[[Tensor], Moments]) -> Head:
        """The head at its weights, the gradient of its objective (without damping) over all rows measured."""
        plain = replace(self, damping=0.0, tilt=None).objective(sums)
        point = plain.at(self.V)
        measured = replace(self, gradient_norm=float(point.gradient.norm()), gradient_scale=point.gradient_scale)
        return measured.anchored(point.sums)

    @classmethod
    def fit_rows(
        cls,
        rows: Rows,
        family: Family,
        design: Design,
        *,
        l2: float | str,
        columns: tuple[str, ...],
        vocabulary: tuple[Any, ...] | None,
        l1: float = 0.0,
        penalize_bias: bool = False,
    ) -> Head:
        """Fits to rows of a design matrix held in memory; see `fit`."""
        family.check(rows.y)
        family = by_column(family) if checked_l1(l1, l2) else family
        refuse_too_large(1 if family.shared else family.K, design.d)
        total = float(rows.w.sum())
        penalised = design.penalised(penalize_bias=penalize_bias)
        path = LeaveOneOutPath().choose(family, rows, penalised, l1=l1) if l2 == "auto" else None
        value = checked_l2(l2) if path is None else path.l2
        objective = Objective(family, rows.sums(family), total, value, penalised, design.names(columns), l1)
        fit = minimise(objective, torch.zeros(family.K, design.d, dtype=torch.float64))
        return cls.from_fit(
            fit, family, design, l2=value, l1=l1, total_weight=total, columns=columns, vocabulary=vocabulary,
            penalize_bias=penalize_bias, l2_path=path,
        )  # fmt: skip

    @classmethod
    def from_fit(cls, fit: Fit, family: Family, design: Design, **rest: Any) -> Head:
        """A head at the point where Newton ended."""
        return cls(
            V=fit.V,
            family=family,
            design=design,
            iterations=fit.iterations,
            gradient_norm=fit.gradient_norm,
            gradient_scale=fit.gradient_scale,
            decrement=fit.decrement,
            **rest,
        )

    @cached_property
    def penalised(self) -> Float[Tensor, " d"]:
        """The diagonal of D."""
        return self.design.penalised(penalize_bias=self.penalize_bias)

    @property
    def penalty(self) -> Float[Tensor, " d"]:
        """`N (λ2 diag(D) + damping)`."""
        return self.total_weight * (self.l2 * self.penalised + self.damping)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the entries of h."""
        return self.design.names(self.columns)

    @property
    def class_names(self) -> tuple[Any, ...]:
        """The class labels in code order; empty for regression."""
        return self.vocabulary or ()

    def logits(self, features: Any) -> Float[Tensor, "n C"]:
        """`z = V h`, in all C class columns (one for logistic, the predictions for linear)."""
        return self.family.expand(self.matrix(features) @ self.V.T)

    def probabilities(self, features: Any) -> Float[Tensor, "n classes"]:
        """Class probabilities in the order of `class_names`."""
        return self.family.probabilities(self.matrix(features) @ self.V.T)

    def matrix(self, features: Any) -> Float[Tensor, "n d"]:
        """Rows h of `[n, columns]` features, a frame's columns found by name; raises `SourceError`, `ShapeError`."""
        return self.design.matrix(read_features(self.columns, self.encoded(features)))

    def encoded(self, features: Any) -> Any:
        """The features as the head's columns; raises `ShapeError` where the encoder is not known."""
        return features if self.encoder is None else self.encoder(features)

    def with_encoder(self, function: Callable[[Any], Any] | None) -> Head:
        """The head behind this function, such as `pipeline[:-1].transform`; None where features come encoded."""
        return replace(self, encoder=None if function is None else Encoder("the given function", function))

    def weighed(self, y: Tensor, w: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Row weights times those of their classes."""
        return w if self.class_weight is None else w * torch.tensor(self.class_weight, dtype=torch.float64)[y]

    def coefficients(self) -> Float[Tensor, "C columns"]:
        """The weights in the units of the original columns, bias last, one row a class (or output)."""
        return self.family.expand(self.design.original_units(self.V).T).T

    def curvature_from(self, packed: Float[Tensor, "m q"]) -> Curvature:
        """The curvature of the objective whose data part is `packed = Σ w s qᵀ`; on the active set of an L1 term."""
        free = active_subspace(self.family, self.V, self.penalised) if self.l1 else None
        return Curvature(packed, self.penalty, self.total_weight, self.family.K, self.family.shared, self.names, free)

    def objective(self, sums: Callable[[Tensor], Moments], *, total_weight: float | None = None) -> Objective:
        """The head's objective over other rows, whose sums are given, its total penalties `N λ2`, `N λ1` unchanged."""
        total = self.total_weight if total_weight is None else total_weight
        ratio = self.total_weight / total
        return Objective(
            self.family, sums, total, self.l2 * ratio, self.penalised, self.names, self.l1 * ratio,
            self.damping * ratio, self.tilt,
        )  # fmt: skip

    def anchored(self, sums: Moments) -> Head:
        """The head as the minimum of its objective tilted over the rows of these sums, taken at its weights."""
        return replace(self, tilt=sums.gradient + self.penalty * self.V)

    def leverage(
        self, features: Any, labels: Any, *, weights: Any = None, ids: Sequence[Any] | None = None
    ) -> Leverage:
        """The training set's leverage blocks and all that is read from them: Cook's distance, leave-one-out, dfbeta.

        `features`, `labels`, `weights` are those the head was fitted to, a frame's columns in any order; `ids` default
        to positions. O(n P²/2) time.
        Raises `ShapeError`, `SourceError` where a label is not one of the head's.
        """
        encoded = self.encoded(features)
        batch = read_samples(self.columns, self.vocabulary, encoded, labels, weights=weights, ids=ids)
        rows = Rows(self.design.matrix(batch.x), batch.y, self.weighed(batch.y, batch.w))
        self.family.check(rows.y)
        curvature = self.curvature_from(rows.sums(self.family)(self.V).curvature)
        return self.leverage_of(curvature, batch.ids, rows)

    def leverage_of(self, curvature: Curvature, ids: pa.Array, rows: Rows) -> Leverage:
        """The leverage blocks of rows of the design matrix under a curvature."""
        return Leverage(
            self.family, self.design, self.V, curvature, ids, rows.H, rows.y, rows.w, self.l1, self.columns,
            self.vocabulary, self.encoder, self.tilt,
        )  # fmt: skip

    def save(self, path: str | Path) -> None:
        """Writes one safetensors file: tensors in float64, the rest as JSON in its header; of an encoder, its name."""
        write_head(self, path)

    @classmethod
    def load(cls, path: str | Path) -> Head:
        """The head that `save` wrote; raises `OutputError` where the file is missing, damaged or something else."""
        return cls(**read_head(path))
