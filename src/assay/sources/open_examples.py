"""One door for every kind of data that a network is trained on: `open_examples`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.utils import data as td

from ..errors import ShapeError, SourceError
from .arrays import column, numpy_of
from .convert import some
from .examples import LABELS, Examples, Samples
from .images import ImageFolder


def open_examples(
    data: Any, *, label: str | None = None, inputs: Sequence[str] = (), ids: Any = None, weights: Any = None
) -> Samples:
    """The samples of a data set; `ids` and `weights` are arrays, one value a sample.

    - `(X, y)` or `(X, y, ids)`: arrays or tensors, the first axis is the samples'.
    - a map-style `torch.utils.data.Dataset` (`Subset`, `ConcatDataset` too: ids are positions in the root, `"1:17"` is
      position 17 in the second of several), or anything with `__len__` and `__getitem__`.
    - a `DataLoader`: its batch size, workers and collate are taken, its shuffling is undone.
    - a Hugging Face `Dataset`: class names from its `ClassLabel`, images decoded.
    - the path of a folder of images, one sub-folder a class.

    Raises `SourceError` where the samples have no order or no length, `ShapeError` where lengths disagree.
    """
    if not isinstance(data, tuple | list) and isinstance(data, Samples):
        return data
    if isinstance(data, str | os.PathLike):
        return _weighed(_of_dataset(ImageFolder(os.fspath(data)), label, inputs), ids, weights)
    if isinstance(data, tuple | list):
        return _of_arrays(data, ids, weights)
    if isinstance(data, td.DataLoader):
        return _weighed(_of_loader(data, label, inputs), ids, weights)
    return _weighed(_of_dataset(data, label, inputs), ids, weights)


def _of_arrays(data: Sequence[Any], ids: Any, weights: Any) -> Examples:
    if not 2 <= len(data) <= 3:
        raise ShapeError(f"{len(data)} arrays; give (X, y) or (X, y, ids)")
    labels = data[1].tolist() if isinstance(data[1], pa.Array | pa.ChunkedArray) else data[1]
    features, y = _tensor(data[0]), numpy_of(labels, "labels")
    if len(features) != len(y):
        raise ShapeError(f"{len(features)} rows of inputs, but {len(y)} labels; give one of each per sample")
    found = Examples(Arrays(features, y), np.arange(len(y)), pa.array(np.arange(len(y))), collate=_joined)
    return _weighed(found, data[2] if len(data) == 3 else ids, weights)


def _of_loader(loader: td.DataLoader[Any], label: str | None, inputs: Sequence[str]) -> Examples:
    dataset: Any = loader.dataset
    batches: Any = loader.batch_sampler
    if isinstance(dataset, td.IterableDataset):
        return _of_dataset(dataset, label, inputs)
    if batches is None:
        raise SourceError("the loader has batch_size=None: its items are batches already; give the data set itself")
    sampler: Any = batches.sampler if type(batches) is td.BatchSampler else batches
    if type(sampler) is td.SubsetRandomSampler:
        dataset = td.Subset(dataset, sorted(int(k) for k in sampler.indices))
    elif type(sampler) is td.RandomSampler and (sampler.replacement or len(sampler) != len(dataset)):
        raise SourceError("the loader draws samples with replacement, or some of them; give the data set itself")
    elif type(sampler) not in (td.SequentialSampler, td.RandomSampler) or len(sampler) != len(dataset):
        raise SourceError(
            f"the loader's {type(sampler).__name__} cannot be put back into order; give the data set itself"
        )
    found = _of_dataset(dataset, label, inputs)
    collate = found.collate if loader.collate_fn is td.default_collate else loader.collate_fn
    return replace(found, collate=collate, batch=batches.batch_size, workers=loader.num_workers)


def _of_dataset(dataset: Any, label: str | None, inputs: Sequence[str]) -> Examples:
    if isinstance(dataset, td.IterableDataset) or not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        raise SourceError(
            f"a {type(dataset).__name__} has no order to come back to; give a map-style data set (with __getitem__ and "
            "__len__), a DataLoader of one, (X, y), or the path of a folder of images"
        )
    if isinstance(dataset, Mapping):
        raise SourceError(
            f"several data sets ({some(list(dataset))}); give one, e.g. data[{next(iter(dataset), '')!r}]"
        )
    if not len(dataset):
        raise SourceError(f"the {type(dataset).__name__} is empty; there is nothing to audit")
    classes = _classes(dataset, label)
    if classes is not None and len(set(classes)) < len(classes):
        classes = None  # names that repeat name nothing
    return Examples(dataset, np.arange(len(dataset)), _ids(dataset), classes, label=label, inputs=tuple(inputs))


def _weighed(found: Examples, ids: Any, weights: Any) -> Examples:
    ids, weights = _column(found, ids), _column(found, weights)
    for given, name in ((ids, "ids"), (weights, "weights")):
        if given is not None and len(given) != len(found):
            raise ShapeError(f"{len(found)} samples, but {len(given)} {name}; give one per sample")
    if ids is not None:
        found = replace(found, ids=column(ids, "ids"))
    return found if weights is None else replace(found, weights=numpy_of(weights, "weights").astype(np.float64))


def _column(found: Examples, given: Any) -> Any:
    """A column of a Hugging Face data set by its name; anything else as it is."""
    if not isinstance(given, str):
        return given
    names = getattr(found.dataset, "column_names", None)
    if names is None or given not in names:
        raise SourceError(f"these samples have no column {given!r}; give an array, one value a sample")
    return list(found.dataset[given])


def _ids(dataset: Any) -> pa.Array:
    """Positions in the root, or the names that it gives its items."""
    if isinstance(dataset, td.Subset):
        return _ids(dataset.dataset).take(pa.array([int(k) for k in dataset.indices]))
    if isinstance(dataset, td.ConcatDataset):
        parts = [_ids(part).to_pylist() for part in dataset.datasets]
        return pa.array([f"{k}:{id_}" for k, part in enumerate(parts) for id_ in part])
    if isinstance(dataset, ImageFolder):
        return pa.array(dataset.ids)
    return pa.array(np.arange(len(dataset)))


def _classes(dataset: Any, label: str | None) -> tuple[str, ...] | None:
    """Class names in code order, where the root knows them."""
    if isinstance(dataset, td.Subset):
        return _classes(dataset.dataset, label)
    if isinstance(dataset, td.ConcatDataset):
        found = {_classes(part, label) for part in dataset.datasets}
        return found.pop() if len(found) == 1 else None
    if getattr(dataset, "target_transform", None) is not None:
        return None  # codes are no longer those that the names belong to
    features = getattr(dataset, "features", None)  # of a Hugging Face data set
    if isinstance(features, Mapping):
        names = [label] if label else [name for name in LABELS if name in features]
        known = getattr(features.get(names[0]) if names else None, "names", None)
    else:
        known = getattr(dataset, "classes", None)
    return tuple(str(name) for name in known) if isinstance(known, list | tuple) and known else None


def _tensor(features: Any) -> Tensor:
    """The inputs of a network as one tensor, as they are."""
    if isinstance(features, Tensor):
        return features
    try:
        return torch.from_numpy(numpy_of(features, "inputs"))
    except (TypeError, ValueError, SourceError) as cause:
        raise ShapeError(
            f"a network is given (inputs, labels), and its inputs must be one tensor or array ({cause})"
        ) from cause


@dataclass(frozen=True)
class Arrays:
    """Tensors in memory as a data set."""

    features: Tensor
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, k: int) -> tuple[Tensor, Any]:
        return self.features[k], self.labels[k]


def _joined(items: list[tuple[Tensor, Any]]) -> tuple[Tensor, np.ndarray]:
    return torch.stack([x for x, _ in items]), np.array([y for _, y in items])
