"""What to audit a model by: its encoded training set, and its penalty where it has one of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..errors import ShapeError, SourceError
from ..features.split import split
from ..from_sklearn import translate
from ..sources.arrays import numpy_of

Settings = tuple[Any, Any, str | None, float | str]
"""Data, weights, family and λ2 for `audit`."""


def of_model(model: Any, data: Any, weight: Any, *, family: str | None, l2: float | str) -> Settings:
    """Raises `ShapeError` where the audit's head cannot equal the model, or its training set is not in memory."""
    if not isinstance(data, tuple | list) or not 2 <= len(data) <= 3:
        raise ShapeError("model= needs its training set in memory, as (X, y) or (X, y, ids)")
    if isinstance(model, nn.Module):
        inputs = _inputs(data[0])
        return (split(model, inputs).embeddings(inputs), *data[1:]), weight, family, l2
    for name, value, default in (("family", family, None), ("l2", l2, "auto")):
        if value != default:
            raise ShapeError(f"{name} follows from model=; leave {name}={value!r} out")
    given = translate(model, data[0], data[1], weights=weight)
    if given.l1:
        raise ShapeError("an audit has no L1 penalty; Head.from_sklearn takes it, and its leverage has every score")
    if not given.bias:
        raise ShapeError("an audit's head has an intercept, and the model was fitted with fit_intercept=False")
    return (given.features, given.labels, *data[2:]), given.weights, given.family, given.l2


def _inputs(features: Any) -> torch.Tensor:
    """The inputs of a network as one tensor, as they are."""
    if isinstance(features, torch.Tensor):
        return features
    try:
        return torch.from_numpy(numpy_of(features, "inputs"))
    except (TypeError, ValueError, SourceError) as cause:
        raise ShapeError(
            f"a network is given (inputs, labels), and its inputs must be one tensor or array ({cause})"
        ) from cause
