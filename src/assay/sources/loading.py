"""Items of somebody else's data set, made into batches; what fails is handed on with its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from .images import image_tensor


@dataclass(frozen=True)
class Failed:
    """Item `position` of a batch raised `cause`; where it is None, the batch could not be made."""

    position: int | None
    cause: Exception


@dataclass(frozen=True)
class Items(Dataset[Any]):
    """Some items of a data set; one that raises is handed on as what it raised, so that its place is known."""

    dataset: Any
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, k: int) -> Any:
        try:
            return _plain(self.dataset[int(self.rows[k])])
        except Exception as cause:  # whatever somebody else's data set raises is named with its item
            return Failed(k, cause)


@dataclass(frozen=True)
class Collate:
    """Makes a batch of items, or says which of them failed."""

    collate: Callable[[list[Any]], Any]

    def __call__(self, items: list[Any]) -> Any:
        for position, item in enumerate(items):
            if isinstance(item, Failed):
                return Failed(position, item.cause)
        try:
            return self.collate(items)
        except (RuntimeError, TypeError, ValueError) as cause:
            return Failed(None, cause)


def _plain(item: Any) -> Any:
    """An item whose pictures are tensors."""
    if isinstance(item, Image.Image):
        return image_tensor(item)
    if isinstance(item, Mapping):
        return {name: _plain(value) for name, value in item.items()}
    if isinstance(item, tuple | list) and any(isinstance(part, Image.Image) for part in item):
        return tuple(_plain(part) for part in item)
    return item


def same(one: Any, other: Any) -> bool:
    """Whether two batches of inputs are equal, bit for bit (NaN equals NaN)."""
    if isinstance(one, Tensor):
        return one.shape == other.shape and bool(torch.isclose(one, other, rtol=0, atol=0, equal_nan=True).all())
    if isinstance(one, Mapping):
        return all(same(one[name], other[name]) for name in one)
    if isinstance(one, tuple | list):
        return all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(np.all((one == other) | ((one != one) & (other != other))))


def tensors_of(inputs: Any) -> list[Any]:
    """The tensors of a batch of inputs."""
    if isinstance(inputs, Mapping):
        return list(inputs.values())
    return list(inputs) if isinstance(inputs, tuple) else [inputs]


def spoken(batch: Any) -> str:
    """What a batch is, in words."""
    return f"a {type(batch).__name__}" + (f" of {len(batch)}" if isinstance(batch, tuple | list) else "")
