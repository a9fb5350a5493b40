"""Samples as a network takes them: a torch data set or loader, a Hugging Face data set, images, or arrays in memory.

The order is that of the data set, whatever a loader would shuffle; ids lead back to the root data set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from torch import Tensor
from torch.utils import data as td

from ..errors import AssayError, SourceError
from .arrays import numpy_of
from .convert import some
from .loading import Failed, Items, batches, same, spoken, tensors_of

BATCH = 256
TWICE = 32  # samples read twice, to see whether they change
LABELS = ("label", "labels", "y", "target", "targets")
Inputs = Tensor | dict[str, Tensor] | tuple[Tensor, ...]
"""What a model is called with: a tensor, named tensors, or several."""


class Block(NamedTuple):
    """b samples: inputs, labels [b] (or targets [b, k]), ids [b], weights float64 [b] if there are any, and further
    columns by name."""

    inputs: Inputs
    labels: Any
    ids: pa.Array
    weights: np.ndarray | None
    fields: dict[str, pa.Array] | None = None


@runtime_checkable
class Samples(Protocol):
    """Samples as a network takes them, in a fixed order, `batch` at a time; `classes` in code order where known."""

    @property
    def batch(self) -> int: ...
    @property
    def classes(self) -> tuple[str, ...] | None: ...
    @property
    def keyed(self) -> bool:
        """False where ids are positions."""
        ...

    def __len__(self) -> int: ...
    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[Block]:
        """Samples [start, stop), `batch` at a time, `start` a multiple of it; raises `SourceError`."""
        ...

    def known_labels(self) -> np.ndarray | None:
        """All labels, where they are at hand."""
        ...

    def check_unchanging(self) -> None:
        """Raises `SourceError` where a sample that is read twice differs."""
        ...

    def where(self, row: int) -> str:
        """A sample in words."""
        ...


@dataclass(frozen=True)
class Examples:
    """`len(rows)` samples of a map-style `dataset`, in order; `ids` int64 or string, `classes` in code order if known.

    `collate` makes a batch of items, `batch` of them at a time; `label` and `inputs` name the entries of items that are
    mappings. `workers`: processes that load.
    """

    dataset: Any
    rows: np.ndarray
    ids: pa.Array
    classes: tuple[str, ...] | None = None
    collate: Callable[[list[Any]], Any] = td.default_collate
    label: str | None = None
    inputs: tuple[str, ...] = ()
    batch: int = BATCH
    workers: int = 0
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def keyed(self) -> bool:
        return not self.ids.equals(pa.array(np.arange(len(self))))

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[Block]:
        """Samples [start, stop), `batch` at a time; `start` is a multiple of it.

        Raises `SourceError` naming the sample where the data set raised or its items do not go together, and where a
        process that loads them died.
        """
        stop = len(self) if stop is None else stop
        items = Items(self.dataset, self.rows[start:stop])
        first = start
        for found in batches(items, self.batch, self.collate, self.workers):
            last = min(first + self.batch, stop)
            yield self._block(found, first, last)
            first = last

    def _block(self, found: Any, first: int, last: int) -> Block:
        """A collated batch as samples [first, last)."""
        if isinstance(found, Failed):
            raise SourceError(self._failed(found, first)) from found.cause
        inputs, labels = self._parts(found)
        counts = {len(labels), *map(len, tensors_of(inputs))}
        if counts != {last - first}:
            raise SourceError(
                f"a batch of {last - first} items, from {self.where(first)} on, came back with {sorted(counts)}; the "
                "collate_fn drops or makes samples: give one that keeps them"
            )
        return Block(inputs, labels, self.ids[first:last], None if self.weights is None else self.weights[first:last])

    def known_labels(self) -> np.ndarray | None:
        """All labels, where the data set keeps them at hand (`.targets`, `.labels`)."""
        if getattr(self.dataset, "target_transform", None) is not None:
            return None
        for name in ("targets", "labels"):
            found = getattr(self.dataset, name, None)
            if found is not None and not callable(found) and hasattr(found, "__len__"):
                return numpy_of(found, "labels")[self.rows] if len(found) == len(self.dataset) else None
        return None

    def check_unchanging(self) -> None:
        """Reads some samples twice, alone and in a batch; raises `SourceError` where a sample differs.

        Because augmentation is on, or because the collate function orders or mixes samples.
        """
        for row in sorted({int(row) for row in np.linspace(0, len(self) - 1, TWICE)}):
            once, again = self._alone(row), self._alone(row)
            if not same(once.inputs, again.inputs):
                raise SourceError(
                    f"{self.where(row)} differs when it is read twice: augmentation is on, and scores would be those "
                    f"of one draw. Give the data set with the transforms of evaluation{_transform(self.dataset)}"
                )
        together = next(replace(self, workers=0).blocks(0, min(self.batch, len(self), TWICE)))
        for k in range(len(together.labels)):
            alone = self._alone(k)
            inputs = zip(tensors_of(alone.inputs), tensors_of(together.inputs), strict=True)
            moved = any(one.shape[1:] == other.shape[1:] and not same(one[0], other[k]) for one, other in inputs)
            if moved or not same(alone.labels[0], together.labels[k]):
                raise SourceError(
                    f"{self.where(k)} is another in a batch: the collate_fn orders or mixes samples; give one that "
                    "keeps them in order"
                )

    def _alone(self, row: int) -> Block:
        return next(replace(self, rows=self.rows[[row]], ids=self.ids[row : row + 1], weights=None, workers=0).blocks())

    def where(self, row: int) -> str:
        """A sample in words."""
        kind = type(self.dataset).__name__
        return f"sample {self.ids[row].as_py()!r} (item {self.rows[row]} of the {kind})"

    def _failed(self, failed: Failed, first: int) -> str:
        if failed.position is None:
            return (
                f"{self.where(first)} and those after it cannot be put into one batch: {failed.cause}; give all items "
                "one shape (a transform that resizes), or a loader with a collate_fn"
            )
        if isinstance(failed.cause, AssayError):
            return str(failed.cause)
        return f"{self.where(first + failed.position)} raised {type(failed.cause).__name__}: {failed.cause}"

    def _parts(self, batch: Any) -> tuple[Inputs, Any]:
        if isinstance(batch, Mapping):
            return self._named(dict(batch))
        if not isinstance(batch, tuple | list) or len(batch) < 2:
            raise SourceError(
                f"an item of the {type(self.dataset).__name__} is {spoken(batch)}; give (input, label) or named entries"
            )
        *inputs, labels = batch
        given = inputs[0] if len(inputs) == 1 else tuple(inputs)
        return (
            dict(given) if isinstance(given, Mapping) else tuple(given) if isinstance(given, list) else given
        ), labels

    def _named(self, batch: dict[str, Any]) -> tuple[Inputs, Any]:
        label = self.label or next((name for name in LABELS if name in batch), None)
        if label not in batch:
            raise SourceError(f"which entry is the label? pass label=, one of {some(list(batch))}")
        wanted = self.inputs or [name for name, value in batch.items() if name != label and isinstance(value, Tensor)]
        if missing := [name for name in wanted if name not in batch]:
            raise SourceError(f"items have no entry {missing[0]!r} to take as an input; theirs are {some(list(batch))}")
        given = {name: batch[name] for name in wanted}
        if loose := next((name for name, value in given.items() if not isinstance(value, Tensor)), None):
            raise SourceError(
                f'entry {loose!r} of the items makes no tensor; with a Hugging Face data set, .with_format("torch")'
            )
        if not given:
            raise SourceError(
                f"no entry beside the label {label!r} is an image or numbers; items have {some(list(batch))}"
            )
        return (next(iter(given.values())) if len(given) == 1 else given), batch[label]


def _transform(dataset: Any) -> str:
    """Where the root's transform is set, if that is known."""
    while isinstance(dataset, td.Subset):
        dataset = dataset.dataset
    name = next((name for name in ("transform", "transforms") if getattr(dataset, name, None) is not None), None)
    return "" if name is None else f" (its .{name} is {getattr(dataset, name)})"
