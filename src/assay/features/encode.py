"""A network run over its training set: block by block, always the same blocks, so that every way to keep the embedding
gives the same bits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ..errors import ShapeError, SourceError
from ..sources.arrays import label_columns, lists, numpy_of
from ..sources.examples import Block, Samples
from ..sources.loading import tensors_of
from ..sources.render import picture
from .split import Split
from .units import check_inputs

FEATURES, LABEL, ID, WEIGHT, PICTURE = "features", "label", "id", "weight", "picture"


@dataclass(frozen=True)
class Encoded:
    """Samples through a split network, as record batches: `id`, `features`, `label` (or `label0`, …), and `weight` and
    `picture` (a PNG, where inputs are images) if there are any; then a table's own columns, `input.` before one that is
    called as those are. `family` is that of the head, or its name."""

    examples: Samples
    split: Split
    family: str
    class_weight: Tensor | None = None
    pictures: bool = True

    def __post_init__(self) -> None:
        if self.class_weight is not None and len(self.class_weight) != self.outputs:
            raise ShapeError(f"the loss weighs {len(self.class_weight)} classes, but the model has {self.outputs}")

    def digest(self) -> str:
        """SHA-256 of ids, labels, weights and further columns of all samples, and of the first inputs."""
        digest = hashlib.sha256(f"{self.family} {self.split.layer} {self.split.half}".encode())
        for tensor in tensors_of(next(self.examples.blocks()).inputs):
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        for piece in self.batches(columns=self.known):
            digest.update(piece.serialize())
        return digest.hexdigest()

    @property
    def known(self) -> list[str]:
        """The columns that need no network and no drawing."""
        return [name for name in self.schema.names if name not in (FEATURES, PICTURE)]

    @property
    def outputs(self) -> int:
        """Classes the model tells apart, or targets it gives."""
        n = self.split.linear.out_features
        return 2 if self.family == "logistic" else n

    def check_known_labels(self) -> None:
        """Raises `SourceError` where a label that is at hand is none of the model's."""
        y = self.examples.known_labels()
        if y is not None and self.family != "linear" and y.ndim == 1 and y.dtype.kind in "iu":
            check_range(y.astype(np.int64), self.outputs, self.examples.where)

    @cached_property
    def schema(self) -> pa.Schema:
        return self._batch(0, next(self.examples.blocks())).schema

    def __len__(self) -> int:
        return len(self.examples)

    def batches(
        self, start: int = 0, stop: int | None = None, *, columns: Sequence[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Samples [start, stop), a block at a time; `start` is a multiple of `examples.batch`.

        Of these `columns`, or of all; without `features` among them the network is not run.
        Raises `SourceError` naming the sample whose embedding is not finite, or whose label no output of the model is
        for.
        """
        for block in self.examples.blocks(start, stop):
            yield self._batch(start, block, columns)
            start += self.examples.batch

    def _batch(self, first: int, block: Block, only: Sequence[str] | None = None) -> pa.RecordBatch:
        y = self._labels(first, block.labels)
        columns: dict[str, Any] = {ID: block.ids} if self.examples.keyed else {}
        if only is None or FEATURES in only:
            columns[FEATURES] = lists(self._embedding(first, block).numpy())
        columns |= label_columns(y if self.examples.classes is None else self._named(y), LABEL)
        if (weight := self._weights(block, y)) is not None:
            columns[WEIGHT] = pa.array(weight)
        wanted = self.pictures and (only is None or PICTURE in only)
        if wanted and (drawn := picture(block.inputs)) is not None:
            columns[PICTURE] = pa.array(drawn, pa.large_binary())
        for name, values in (block.fields or {}).items():
            columns[f"input.{name}" if _ours(name) else name] = values
        return pa.RecordBatch.from_pydict({name: columns[name] for name in only or columns})

    def rows(self, rows: Sequence[int], columns: Sequence[str]) -> pa.RecordBatch | None:
        """Single samples, where the examples can be taken one by one; else None."""
        take = getattr(self.examples, "take", None)
        return None if take is None else self._batch(0, take(rows), columns)

    def fingerprint(self) -> str | None:
        """Of the network and the samples, where the latter are known by less than reading them; else None."""
        own = getattr(self.examples, "fingerprint", None)
        if own is None:
            return None
        told = f"{self.split.fingerprint()} {own()} {self.family} {self.class_weight}"
        return hashlib.sha256(told.encode()).hexdigest()

    def _embedding(self, first: int, block: Block) -> Tensor:
        check_inputs(self.split.model, self.examples, block)
        h = self.split.embed(block.inputs)
        if len(bad := (~torch.isfinite(h).all(1)).nonzero()):
            raise SourceError(
                f"{self.examples.where(first + int(bad[0]))}: the model's embedding is not finite; check that input, "
                "or the model's weights"
            )
        return h

    def _labels(self, first: int, labels: Any) -> np.ndarray:
        y = numpy_of(labels, "labels")
        where = self.examples.where(first)
        if self.family == "linear":
            width = 1 if y.ndim == 1 else y.shape[1]
            if width != self.outputs:
                raise ShapeError(f"{where}: {width} targets a sample, but the model has {self.outputs} outputs")
            return y.astype(np.float64)
        y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
        if y.ndim != 1:
            raise ShapeError(f"labels have shape {y.shape}; give one class a sample, several at once are not supported")
        if y.dtype.kind == "f" and not bool((y == np.round(y)).all()):
            raise ShapeError(f'{where} and those after it have labels that are not whole; pass family="linear"')
        if y.dtype.kind in "iubf":
            y = y.astype(np.int64)
            check_range(y, self.outputs, lambda row: self.examples.where(first + row))
        elif self.class_weight is not None:
            raise ShapeError("the loss weighs classes by their codes, but the labels are no integers; give codes")
        return y

    def codes(self, first: int, block: Block) -> np.ndarray | None:
        """The class codes of a block that begins at sample `first`; None where labels are names, or targets."""
        y = self._labels(first, block.labels)
        return y if y.dtype.kind == "i" else None

    def _named(self, codes: np.ndarray) -> np.ndarray:
        classes = self.examples.classes or ()
        if codes.dtype.kind not in "iub" or self.family == "linear" or len(classes) != self.outputs:
            return codes
        return np.array(classes)[codes.astype(np.int64)]

    def _weights(self, block: Block, y: np.ndarray) -> np.ndarray | None:
        if self.class_weight is None:
            return block.weights
        by_class = self.class_weight.numpy()[y]
        return by_class if block.weights is None else block.weights * by_class


def _ours(name: str) -> bool:
    return name in (FEATURES, ID, WEIGHT, PICTURE) or name.rstrip("0123456789") == LABEL


def check_range(codes: np.ndarray, outputs: int, where: Callable[[int], str]) -> None:
    """Raises `SourceError` naming the first label that no output is for; `where(row)` says which sample it is of."""
    if len(bad := np.flatnonzero((codes < 0) | (codes >= outputs))):
        raise SourceError(
            f"{where(int(bad[0]))} has the label {codes[bad[0]]}, but the model tells {outputs} classes apart "
            f'(0–{outputs - 1}); drop the sample, or is this another model, or a regression (family="linear")?'
        )
