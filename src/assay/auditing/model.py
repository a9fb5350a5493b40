"""What to audit a model by: its encoded training set, and its penalty where it has one of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..encoder import Encoder
from ..errors import ShapeError, SourceError
from ..features.split import split
from ..from_sklearn import encode, encoder_of, translate
from ..sources.arrays import numpy_of


@dataclass(frozen=True)
class Modelled:
    """`data` `(X, y)` or `(X, y, ids)` with X encoded, `weight`s, `family` and `l2` for `audit`; what encoded it."""

    data: tuple[Any, ...]
    weight: Any
    family: str | None
    l2: float | str
    encoder: Encoder | None


def of_model(model: Any, data: Any, weight: Any, *, family: str | None, l2: float | str) -> Modelled:
    """Raises `ShapeError` where the audit's head cannot equal the model, or its training set is not in memory."""
    inputs, *rest = _in_memory(data)
    encoder = _encoder(model, inputs)
    if isinstance(model, nn.Module):
        return Modelled((_encoded(encoder, model, inputs), *rest), weight, family, l2, encoder)
    for name, value, default in (("family", family, None), ("l2", l2, "auto")):
        if value != default:
            raise ShapeError(f"{name} follows from model=; leave {name}={value!r} out")
    given = translate(model, inputs, rest[0], weights=weight)
    if given.l1:
        raise ShapeError("an audit has no L1 penalty; Head.from_sklearn takes it, and its leverage has every score")
    if not given.bias:
        raise ShapeError("an audit's head has an intercept, and the model was fitted with fit_intercept=False")
    data = (given.features, given.labels, *rest[1:])
    return Modelled(data, given.weights, given.family, given.l2, encoder)


def encoded_by(model: Any, new: Any, name: str | None) -> tuple[Any, ...]:
    """New `(X, y)` as the model of an audit encodes them; `name` is that of the audit's encoder.

    Raises `ShapeError` where the model is another, or the samples are not in memory.
    """
    inputs, *rest = _in_memory(new)
    encoder = _encoder(model, inputs)
    found = None if encoder is None else encoder.name
    if found != name:
        raise ShapeError(f"the audit was made through {name or 'no encoder'}, but this model has {found or 'none'}")
    return (_encoded(encoder, model, inputs), *rest)


def _encoder(model: Any, inputs: Any) -> Encoder | None:
    """What stands before the model's last layer, or before a pipeline's last step; None where nothing does."""
    if not isinstance(model, nn.Module):
        return encoder_of(model)
    found = split(model, _tensor(inputs))
    return Encoder(found.name, lambda features: found.embeddings(_tensor(features)))


def _encoded(encoder: Encoder | None, model: Any, inputs: Any) -> Any:
    return encode(model, inputs) if encoder is None else encoder(inputs)


def _in_memory(data: Any) -> tuple[Any, ...]:
    if not isinstance(data, tuple | list) or not 2 <= len(data) <= 3:
        raise ShapeError("model= needs its samples in memory, as (X, y) or (X, y, ids)")
    return tuple(data)


def _tensor(features: Any) -> torch.Tensor:
    """The inputs of a network as one tensor, as they are."""
    if isinstance(features, torch.Tensor):
        return features
    try:
        return torch.from_numpy(numpy_of(features, "inputs"))
    except (TypeError, ValueError, SourceError) as cause:
        raise ShapeError(
            f"a network is given (inputs, labels), and its inputs must be one tensor or array ({cause})"
        ) from cause
