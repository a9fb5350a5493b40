"""Samples for many passes: read once and held where they fit, else read anew each time; always in one order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import TensorDataset, default_collate

from ..errors import ShapeError, SourceError
from ..sources.arrays import numpy_of
from ..sources.examples import Block, Examples, Inputs, Samples
from ..sources.loading import tensors_of
from ..sources.open_examples import Arrays

HELD = 2**31  # bytes of samples held between passes, at most


class Batch(NamedTuple):
    """b samples as the model takes them, on its device: inputs, targets, weights float64 [b].

    They stand at positions first, first + 1, …, or at `chosen`.
    """

    inputs: Inputs
    targets: Tensor
    weights: Float[Tensor, " b"]
    first: int
    chosen: Tensor | None = None

    def __len__(self) -> int:
        return len(self.weights)

    def rows(self, start: int, stop: int) -> Batch:
        """Samples [start, stop) of these."""
        inputs = mapped(self.inputs, lambda x: x[start:stop])
        chosen = None if self.chosen is None else self.chosen[start:stop]
        return Batch(inputs, self.targets[start:stop], self.weights[start:stop], self.first + start, chosen)

    def take(self, rows: Tensor) -> Batch:
        """Some of these samples, in another order."""
        chosen = self.first + rows if self.chosen is None else self.chosen[rows]
        return Batch(mapped(self.inputs, lambda x: x[rows]), self.targets[rows], self.weights[rows], 0, chosen)

    def position(self, row: int) -> int:
        """Where a row of the batch stands among all samples."""
        return self.first + row if self.chosen is None else int(self.chosen[row])


@dataclass(frozen=True)
class Reading:
    """The samples a network was trained on, as tensors like `like` (floats in its type, on its device).

    `class_weight` multiplies the weight of a sample by that of its class; samples labelled `ignored` have none.
    """

    examples: Samples
    like: Tensor
    class_weight: Float[Tensor, " C"] | None = None
    ignored: int | None = None
    held: int = HELD

    def __len__(self) -> int:
        return len(self.examples)

    @cached_property
    def ids(self) -> pa.Array:
        """Ids of all samples, in order."""
        if isinstance(self.examples, Examples):
            return self.examples.ids
        return pa.concat_arrays([block.ids for block in self.examples.blocks()])

    @cached_property
    def total_weight(self) -> float:
        """`N = Σ w`; raises `SourceError` where no sample has any weight."""
        total = float(sum(float(batch.weights.sum()) for batch in self.batches()))
        if not total > 0:
            raise SourceError(f"all {len(self)} samples have the weight 0 (or a label that the loss ignores)")
        return total

    @cached_property
    def _whole(self) -> Batch | None:
        """All samples, where they are in memory already or fit."""
        if (found := _in_memory(self.examples)) is not None and not self._grows(found[0]):
            return self._placed(*found, 0)
        first = self._of(next(self.examples.blocks()), 0)
        size = sum(x.numel() * x.element_size() for x in tensors_of(first.inputs)) / len(first)
        if size * len(self) > self.held:
            return None
        parts = list(self._stream(0))
        shapes = {tuple(tuple(x.shape[1:]) for x in tensors_of(part.inputs)) for part in parts}
        if len(shapes) > 1:  # sequences of several lengths stay in the batches they were put into
            return None
        return Batch(
            _joined([part.inputs for part in parts]),
            torch.cat([part.targets for part in parts]),
            torch.cat([part.weights for part in parts]),
            0,
        )

    def _grows(self, inputs: Inputs) -> bool:
        """Whether inputs must be copied to be placed, and then are too large to hold: float16 mapped from disk."""
        given = [x for x in tensors_of(inputs) if x.is_floating_point()]
        copied = [x for x in given if x.dtype != self.like.dtype or x.device != self.like.device]
        return sum(x.numel() for x in copied) * self.like.element_size() > self.held

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """All samples from position `start` on, in order, in batches of any size; cut them with `Batch.rows`."""
        if self._whole is not None:
            yield self._whole.rows(start, len(self))
            return
        begin = start - start % self.examples.batch
        for batch in self._stream(begin):
            if batch.first + len(batch) > start:
                yield batch.rows(max(0, start - batch.first), len(batch))

    def at(self, positions: list[int]) -> Batch:
        """Samples at these positions."""
        if self._whole is not None:
            return self._whole.take(torch.tensor(positions, device=self.like.device))
        wanted = {position: k for k, position in enumerate(positions)}
        found: dict[int, Batch] = {}
        for batch in self._stream(0):
            for row in range(batch.first, batch.first + len(batch)):
                if row in wanted:
                    found[row] = batch.rows(row - batch.first, row - batch.first + 1)
        parts = [found[position] for position in positions]
        return Batch(
            _joined([part.inputs for part in parts]),
            torch.cat([part.targets for part in parts]),
            torch.cat([part.weights for part in parts]),
            0,
            torch.tensor(positions, device=self.like.device),
        )

    def telling(self, rows: int) -> Iterator[Batch]:
        """What these samples are told from others by: all where they are held, else the first and some drawn ones."""
        if self._whole is not None:
            yield self._whole
            return
        yield next(self.batches()).rows(0, rows)
        if isinstance(self.examples, Examples):
            yield from self.sampled(min(rows, len(self)), 0).batches()

    def sampled(self, rows: int, seed: int) -> Reading:
        """A seeded subsample without replacement, in order; raises `ShapeError` where it cannot be taken."""
        if not 1 <= rows <= len(self):
            raise ShapeError(f"sample={rows}, but there are {len(self)} samples; give 1 to {len(self)}")
        if not isinstance(self.examples, Examples):
            raise ShapeError(f"a {type(self.examples).__name__} has no random access; leave sample= out")
        chosen = np.sort(np.random.default_rng(seed).permutation(len(self))[:rows])
        weights = self.examples.weights
        examples = replace(
            self.examples, rows=self.examples.rows[chosen], ids=self.examples.ids.take(pa.array(chosen)),
            weights=None if weights is None else weights[chosen],
        )  # fmt: skip
        return replace(self, examples=examples)

    def _stream(self, start: int) -> Iterator[Batch]:
        for block in self.examples.blocks(start):
            batch = self._of(block, start)
            yield batch
            start += len(batch)

    def _of(self, block: Block, first: int) -> Batch:
        return self._placed(block.inputs, block.labels, block.weights, first)

    def _placed(self, inputs: Inputs, labels: Any, weights: np.ndarray | None, first: int) -> Batch:
        targets = labels if isinstance(labels, Tensor) else _tensor(labels)
        w = torch.ones(len(targets), dtype=torch.float64) if weights is None else torch.from_numpy(weights).double()
        if bool(((w < 0) | ~w.isfinite()).any()):
            row = int(((w < 0) | ~w.isfinite()).nonzero()[0])
            raise SourceError(
                f"{self.examples.where(first + row)} has the weight {float(w[row]):g}; weights are finite, not negative"
            )
        codes = targets.cpu()
        if self.ignored is not None and codes.ndim == 1 and not codes.is_floating_point():
            w = w * (codes != self.ignored)
        if self.class_weight is not None:
            if codes.ndim != 1 or codes.is_floating_point():
                raise ShapeError("weights of classes need labels that are class codes, one a sample; give weights=")
            known = (codes >= 0) & (codes < len(self.class_weight))
            w = w * self.class_weight[codes.long().where(known, 0)]  # a code out of range is the loss's to refuse

        def placed(value: Tensor) -> Tensor:
            return value.to(self.like.device, self.like.dtype if value.is_floating_point() else value.dtype)

        return Batch(mapped(inputs, placed), placed(targets), w.to(self.like.device), first)


def mapped(inputs: Inputs, function: Callable[[Tensor], Tensor]) -> Inputs:
    """The same inputs, each tensor through a function."""
    if isinstance(inputs, dict):
        return {name: function(value) for name, value in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(function(value) for value in inputs)
    return function(inputs)


def _joined(parts: list[Inputs]) -> Inputs:
    first = parts[0]
    if isinstance(first, dict):
        return {name: torch.cat([part[name] for part in parts if isinstance(part, dict)]) for name in first}
    if isinstance(first, tuple):
        return tuple(torch.cat([part[k] for part in parts if isinstance(part, tuple)]) for k in range(len(first)))
    return torch.cat([part for part in parts if isinstance(part, Tensor)])


def _tensor(labels: Any) -> Tensor:
    found = numpy_of(labels, "labels")
    if found.dtype.kind not in "iubf":
        raise SourceError(f"labels are {found.dtype}; a loss takes numbers: give class codes (0, 1, …) or targets")
    return torch.from_numpy(np.ascontiguousarray(found))


def _in_memory(examples: Samples) -> tuple[Inputs, Any, np.ndarray | None] | None:
    """Inputs, labels and weights of examples that are tensors already, without reading them one by one."""
    if not isinstance(examples, Examples):
        return None
    dataset: Any = examples.dataset
    if isinstance(dataset, Arrays):
        inputs, labels = dataset.features, dataset.labels
    elif type(dataset) is TensorDataset and len(dataset.tensors) == 2 and examples.collate is default_collate:
        inputs, labels = dataset.tensors
    else:
        return None
    if len(examples) == len(dataset):
        return inputs, labels, examples.weights
    return inputs[torch.from_numpy(examples.rows)], labels[examples.rows], examples.weights
