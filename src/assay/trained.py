"""A trained layer as the weights of a head, its labels checked against its outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from .design import Design
from .errors import ShapeError
from .families import Family, Softmax, make_family
from .l2 import Rows
from .sources.arrays import numpy_of
from .sources.samples import read_samples


def trained_parts(
    layer: nn.Linear, features: Any, labels: Any, family: str, weights: Any
) -> tuple[Rows, dict[str, Any]]:
    """The rows that came into the layer, and the fields of a `Head` that follow from the layer."""
    chosen, V = weights_of(layer, family)
    columns = tuple(f"x{j}" for j in range(layer.in_features))
    vocabulary = tuple(range(max(chosen.C, 2))) if chosen.classifies else None
    batch = read_samples(columns, vocabulary, features, checked_labels(labels, chosen), weights=weights)
    design = Design.identity(layer.in_features, bias=_bias(layer) is not None)
    fields = {"V": V, "family": chosen, "design": design, "columns": columns, "vocabulary": vocabulary}
    return Rows(design.matrix(batch.x), batch.y, batch.w), fields


def weights_of(layer: nn.Linear, family: str) -> tuple[Family, Float[Tensor, "K d"]]:
    """The family of this name for the layer's outputs, and the layer's weights in it, bias last, float64 on the CPU.

    Raises `ShapeError` where the family takes another number of outputs, or a weight is not finite.
    """
    outputs = layer.out_features
    if family == "logistic" and outputs != 1:
        raise ShapeError(f'family="logistic" is one logit, but the layer has {outputs} outputs; use "softmax"')
    if family == "softmax" and outputs < 2:
        raise ShapeError('family="softmax" needs a logit for each class, but the layer has one; use "logistic"')
    chosen = make_family(family, 2 if family == "logistic" else outputs)
    W = layer.weight.detach().double().cpu()
    if (bias := _bias(layer)) is not None:
        W = torch.cat([W, bias.detach().double().cpu()[:, None]], 1)
    if not bool(torch.isfinite(W).all()):
        raise ShapeError("the layer's weights are not all finite; was its training stopped by a NaN?")
    return chosen, chosen.basis.T @ W if isinstance(chosen, Softmax) else W


def _bias(layer: nn.Linear) -> Tensor | None:
    return layer.get_parameter("bias") if "bias" in dict(layer.named_parameters()) else None


def checked_labels(labels: Any, family: Family) -> np.ndarray:
    """Labels as the layer's outputs are counted; raises `ShapeError` naming the first that is none of them."""
    y = numpy_of(labels, "labels")
    if not family.classifies:
        return y.astype(np.float64)
    classes = max(family.C, 2)
    codes = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if codes.ndim != 1:
        raise ShapeError(f"labels have shape {y.shape}; give one class a sample (several at once are not supported)")
    if codes.dtype.kind not in "iub" and not (codes.dtype.kind == "f" and bool((codes == np.round(codes)).all())):
        raise ShapeError(f"labels have dtype {y.dtype}; the layer's outputs are counted from 0, give integers")
    bad = np.flatnonzero((codes < 0) | (codes >= classes))
    if len(bad):
        raise ShapeError(
            f"labels[{bad[0]}] = {codes[bad[0]]:g}, but the layer has {classes} classes (0–{classes - 1}); drop the "
            "row, or is this another model?"
        )
    return codes.astype(np.int64)
