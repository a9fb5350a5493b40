"""Whether a network is given the columns it was made for, in their order and units."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..errors import ShapeError
from ..sources.examples import Block, Samples
from ..sources.table_examples import TableExamples

BEYOND = 2.0  # times the range a network was normalised to: values further out are of another unit


def check_inputs(model: nn.Module, samples: Samples, block: Block) -> None:
    """`check_columns` on a block of a table's rows; nothing on samples that are none."""
    if isinstance(samples, TableExamples) and isinstance(block.inputs, Tensor):
        check_columns(model, samples.source.columns, block.inputs)


def check_columns(model: nn.Module, names: tuple[str, ...], values: Tensor) -> None:
    """Compares a table's columns with those that a layer keeps (`.columns`, `.mean`, `.scale`), if one does.

    Raises `ShapeError` where the names differ, or a value lies twice as far out as the network's range. A unit in which
    values are smaller is not noticed: they might be some of the table.
    """
    for module in model.modules():
        known: Any = getattr(module, "columns", None)
        if not isinstance(known, tuple) or not known:
            continue
        if known != names:
            raise ShapeError(_other(known, names))
        mean, scale = getattr(module, "mean", None), getattr(module, "scale", None)
        if isinstance(mean, Tensor) and isinstance(scale, Tensor):
            _refuse_far(names, values.double(), mean.double().cpu(), scale.double().cpu())


def _other(known: tuple[str, ...], names: tuple[str, ...]) -> str:
    place = next((k for k, (a, b) in enumerate(zip(known, names, strict=False)) if a != b), min(len(known), len(names)))
    wanted = repr(known[place]) if place < len(known) else "no further one"
    found = repr(names[place]) if place < len(names) else "not there"
    order = ", ".join(known)
    return (
        f"column {place} is {found}, but the network was made for {wanted} there ({order}); name the columns in that "
        "order with features="
    )


def _refuse_far(names: tuple[str, ...], values: Tensor, mean: Tensor, scale: Tensor) -> None:
    far = ((values - mean) / scale).abs()
    for j in (far.amax(0) > BEYOND).nonzero()[:, 0].tolist():
        worst = float(values[int(far[:, j].argmax()), j])
        low, high = float(mean[j] - scale[j]), float(mean[j] + scale[j])
        raise ShapeError(
            f"column {names[j]!r} has the value {worst:g}, but the network was made for {low:g} to {high:g}; is it in "
            "another unit?"
        )
