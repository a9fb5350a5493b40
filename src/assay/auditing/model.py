"""What to audit a scikit-learn estimator by: its encoded training set, and the penalty it was fitted with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..encoder import Encoder
from ..errors import ShapeError


@dataclass(frozen=True)
class Modelled:
    """`data` `(X, y)` or `(X, y, ids)` with X encoded, `weight`s, `family` and `l2` for `audit`; what encoded it."""

    data: tuple[Any, ...]
    weight: Any
    family: str | None
    l2: float | str
    encoder: Encoder | None


def of_estimator(model: Any, data: Any, weight: Any, *, family: str | None, l2: float | str) -> Modelled:
    """Raises `ShapeError` where the audit's head cannot equal the model, or its training set is not in memory."""
    from ..from_sklearn import encoder_of, translate  # scikit-learn takes seconds to import

    inputs, *rest = _in_memory(data)
    for name, value, default in (("family", family, None), ("l2", l2, "auto")):
        if value != default:
            raise ShapeError(f"{name} follows from model=; leave {name}={value!r} out")
    given = translate(model, inputs, rest[0], weights=weight)
    if given.l1:
        raise ShapeError("an audit has no L1 penalty; Head.from_sklearn takes it, and its leverage has every score")
    if not given.bias:
        raise ShapeError("an audit's head has an intercept, and the model was fitted with fit_intercept=False")
    data = (given.features, given.labels, *rest[1:])
    return Modelled(data, given.weights, given.family, given.l2, encoder_of(model))


def encoded_by(model: Any, new: Any, name: str | None) -> tuple[Any, ...]:
    """New `(X, y)` as the model of an audit encodes them; `name` is that of the audit's encoder.

    Raises `ShapeError` where the model is another, or the samples are not in memory.
    """
    from ..from_sklearn import encode, encoder_of

    inputs, *rest = _in_memory(new)
    encoder = encoder_of(model)
    found = None if encoder is None else encoder.name
    if found != name:
        raise ShapeError(f"the audit was made through {name or 'no encoder'}, but this model has {found or 'none'}")
    return (encode(model, inputs), *rest)


def _in_memory(data: Any) -> tuple[Any, ...]:
    if not isinstance(data, tuple | list) or not 2 <= len(data) <= 3:
        raise ShapeError("model= needs its samples in memory, as (X, y) or (X, y, ids)")
    return tuple(data)
