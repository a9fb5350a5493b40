"""What to audit a scikit-learn estimator by: its encoded training set and its penalty."""

from __future__ import annotations

from typing import Any

from ..errors import ShapeError
from ..from_sklearn import translate


def of_model(model: Any, data: Any, weight: Any, *, family: str | None, l2: float | str) -> tuple[Any, Any, str, float]:
    """Data, weights, family and λ2 for `audit`; raises `ShapeError` where the audit's head cannot equal the model."""
    for name, value, default in (("family", family, None), ("l2", l2, "auto")):
        if value != default:
            raise ShapeError(f"{name} follows from model=; leave {name}={value!r} out")
    if not isinstance(data, tuple | list) or not 2 <= len(data) <= 3:
        raise ShapeError("model= needs its training set in memory, as (X, y) or (X, y, ids)")
    given = translate(model, data[0], data[1], weights=weight)
    if given.l1:
        raise ShapeError("an audit has no L1 penalty; Head.from_sklearn takes it, and its leverage has every score")
    if not given.bias:
        raise ShapeError("an audit's head has an intercept, and the model was fitted with fit_intercept=False")
    return (given.features, given.labels, *data[2:]), given.weights, given.family, given.l2
