"""A fitted scikit-learn estimator as a head: the same objective, in this library's terms.

With N the total weight and an unpenalised intercept, `(1/N) Σ w ℓ + (λ2/2)‖V‖² + λ1‖V‖₁` is

| estimator                    | its objective                              | N λ2        | N λ1     |
|------------------------------|--------------------------------------------|-------------|----------|
| LogisticRegression, C classes| `C Σ w ℓ + (1−ρ)/2 ‖W‖² + ρ‖W‖₁`           | `(1−ρ)/C`   | `ρ/C`    |
| LogisticRegression, two      | the same with one row, half the difference | `2 (1−ρ)/C` | `ρ/C`    |
| Ridge                        | `Σ w (y − z)² + α‖W‖²`                     | `α`         | 0        |
| LinearRegression             | `Σ w (y − z)²`                             | 0           | 0        |
| ElasticNet                   | `1/2N Σ w (y−z)² + α(1−ρ)/2 ‖W‖² + αρ‖W‖₁` | `N α (1−ρ)` | `N α ρ`  |

Two classes are two rows ±W/2 here: half the squared norm, the same absolute one.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import (
    ElasticNet,
    ElasticNetCV,
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    Ridge,
    RidgeCV,
)
from sklearn.pipeline import Pipeline
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.validation import check_is_fitted

from .encoder import Encoder
from .errors import AssayWarning, ShapeError, SourceError
from .sources.arrays import numpy_of
from .sources.convert import some
from .sources.frame import is_frame

KNOWN = "LogisticRegression, LogisticRegressionCV, Ridge, RidgeCV, LinearRegression, ElasticNet, ElasticNetCV"
FAR = 0.01  # probability, or standard deviations of the target, by which an estimator may miss its own optimum


@dataclass(frozen=True)
class Translated:
    """An estimator's training set and objective.

    `features` are encoded; `weights` of the rows (None for ones) have those of the classes, `class_weight`, in them.
    """

    features: Any
    labels: Any
    weights: np.ndarray | None
    family: str
    l2: float
    l1: float
    bias: bool
    class_weight: tuple[float, ...] | None = None


def translate(estimator: Any, features: Any, labels: Any, *, weights: Any = None) -> Translated:
    """The estimator's objective on this training set; raises `ShapeError` naming what has no equal here."""
    last = _last(estimator)
    encoded = encode(estimator, features)
    y = numpy_of(labels, "labels")
    w = None if weights is None else _checked_weights(numpy_of(weights, "weights").astype(np.float64), len(y))
    if len(y) != len(encoded):
        raise ShapeError(f"{len(encoded)} rows of features, but {len(y)} labels; give one of each per sample")
    by_class = None
    if isinstance(last, LogisticRegression):
        codes = _codes(last, y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y)
        if last.class_weight is not None:
            named = last.classes_[codes]
            by_class = compute_class_weight(last.class_weight, classes=last.classes_, y=named, sample_weight=w)
            w = (1.0 if w is None else w) * by_class[codes]
    total = float(len(y) if w is None else w.sum())
    family, l2, l1 = _penalties(last, total)
    class_weight = None if by_class is None else tuple(by_class.tolist())
    return Translated(encoded, labels, w, family, l2, l1, bool(last.fit_intercept), class_weight)


def _checked_weights(w: np.ndarray, rows: int) -> np.ndarray:
    if w.shape != (rows,):
        raise ShapeError(f"weights have shape {w.shape}, but there are {rows} labels; give one weight per sample")
    if not w.sum() > 0:
        raise SourceError("the weights sum to nothing: no sample counts; give at least some a positive weight")
    return w


def encoder_of(estimator: Any) -> Encoder | None:
    """The transforms before the last step; None where there are none."""
    if not isinstance(estimator, Pipeline) or len(estimator.steps) == 1:
        return None
    steps = [type(step).__name__ for _, step in estimator.steps[:-1] if step not in (None, "passthrough")]
    return Encoder(f"Pipeline({', '.join(steps)})", partial(encode, estimator))


def encode(estimator: Any, features: Any) -> Any:
    """The features as the last step sees them: columns by name in the order of the fit, then all steps before it.

    Raises `ShapeError` for a missing column, or a step that changes the number of rows.
    """
    names = getattr(estimator, "feature_names_in_", None)
    if is_frame(features) and names is not None:
        present = list(getattr(features, "column_names", features.columns))
        missing = [name for name in names if name not in present]
        if missing:
            raise ShapeError(f"{len(missing)} columns the estimator was fitted to are missing: {some(missing)}")
        features = features.select(list(names)) if hasattr(features, "column_names") else features[list(names)]
    features = features if hasattr(features, "shape") else np.asarray(features)
    wanted = getattr(estimator, "n_features_in_", None)
    if wanted is not None and features.shape[1:] != (wanted,):
        raise ShapeError(f"features have shape {tuple(features.shape)}; the estimator was fitted to [n, {wanted}]")
    if not isinstance(estimator, Pipeline) or len(estimator.steps) == 1:
        return _dense(features)
    rows = features.shape[0]
    for name, step in estimator.steps[:-1]:
        if step in (None, "passthrough"):
            continue
        features = step.transform(features)
        if features.shape[0] != rows:
            raise ShapeError(
                f"step {name!r} ({type(step).__name__}) makes {features.shape[0]} rows of {rows}; scores belong to "
                "samples, so take it out of the pipeline and give the rows it keeps"
            )
    return _dense(features)


def _dense(features: Any) -> Any:
    return features.toarray() if hasattr(features, "toarray") else features


def _last(estimator: Any) -> Any:
    """The linear model itself; raises `ShapeError` where it is none that has an equal here."""
    last = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    if not isinstance(last, BaseEstimator) or type(last).__name__ not in KNOWN.split(", "):
        raise ShapeError(f"{type(last).__name__} is no estimator that a head can equal; those are {KNOWN}")
    try:
        check_is_fitted(last)
    except NotFittedError as error:
        raise ShapeError(f"the {type(last).__name__} is not fitted; call its fit first") from error
    if getattr(last, "positive", False):
        raise ShapeError(f"{type(last).__name__}(positive=True) constrains the weights, which a head does not")
    if getattr(last, "solver", "") == "liblinear":
        raise ShapeError("solver='liblinear' penalises the intercept; fit with solver='lbfgs'")
    if getattr(last, "refit", True) is False:
        raise ShapeError("refit=False averages the folds' coefficients, which are no optimum; fit with refit=True")
    return last


def _penalties(last: Any, total: float) -> tuple[str, float, float]:
    """Family, λ2 and λ1 of the linear model for this total weight."""
    if isinstance(last, LogisticRegression):
        C, share = _one(last, "C"), _share(last)
        twice = 2 if len(last.classes_) == 2 else 1
        return "softmax", twice * (1 - share) / (C * total), share / (C * total)
    if isinstance(last, ElasticNet | ElasticNetCV):
        alpha, share = _one(last, "alpha"), _one(last, "l1_ratio")
        return "linear", alpha * (1 - share), alpha * share
    if isinstance(last, Ridge | RidgeCV):
        return "linear", _one(last, "alpha") / total, 0.0
    assert isinstance(last, LinearRegression)
    return "linear", 0.0, 0.0


def _share(last: Any) -> float:
    """The L1 share ρ of a logistic regression, in both of scikit-learn's spellings."""
    penalty = getattr(last, "penalty", "deprecated")
    if penalty in ("l2", "l1"):
        return float(penalty == "l1")
    if penalty is None:
        return 0.0
    if isinstance(last, LogisticRegressionCV):
        return 0.0 if set(np.ravel(last.l1_ratio_).tolist()) == {None} else _one(last, "l1_ratio")
    return float(last.l1_ratio or 0.0)


def _one(last: Any, name: str) -> float:
    """A setting, or what a cross-validated estimator chose; raises `ShapeError` where it is one for each output."""
    if name == "C" and getattr(last, "penalty", "deprecated") is None:
        return float("inf")
    chosen = getattr(last, f"{name}_") if hasattr(last, f"{name}_") else getattr(last, name)
    values = np.unique(np.asarray(chosen, dtype=np.float64))
    if len(values) > 1:
        raise ShapeError(
            f"{type(last).__name__} has one {name} for each output ({some(values.tolist())}); a head has one for all"
        )
    return float(values[0])


def _codes(last: LogisticRegression, y: np.ndarray) -> np.ndarray:
    """Positions of the labels among the estimator's classes; raises `SourceError` where their sets differ."""
    unknown = np.setdiff1d(y, last.classes_).tolist()
    absent = np.setdiff1d(last.classes_, y).tolist()
    if unknown or absent:
        what = f"label {unknown[0]!r} is not one of" if unknown else f"class {absent[0]!r} has no sample, of"
        raise SourceError(f"{what} the estimator's classes ({some(last.classes_.tolist())}); give its training set")
    return np.searchsorted(last.classes_, y)


def say_how_far(estimator: Any, given: Translated, predicted: np.ndarray) -> None:
    """Warns where the estimator is far from the optimum on these data; `predicted` are the predictions there."""
    last = _last(estimator)
    if isinstance(last, LogisticRegression):
        gap, unit = np.abs(last.predict_proba(given.features) - predicted).max(), "in probability"
    else:
        y = numpy_of(given.labels, "labels")
        gap = (np.abs(last.predict(given.features).reshape(y.shape) - predicted.reshape(y.shape)) / y.std(0)).max()
        unit = "standard deviations of the target"
    if gap > FAR:
        warnings.warn(
            f"the predictions of the {type(last).__name__} differ by up to {gap:.2g} {unit} from those at the optimum "
            "of its objective on these data: it stopped early (fit with a smaller tol and more max_iter), or was "
            "fitted to other data or weights (give those). The head is at the optimum",
            AssayWarning,
            3,
        )
