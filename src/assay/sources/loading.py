"""Items of somebody else's data set, made into batches; what fails is handed on with its place."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils import data as td

from ..errors import SourceError
from .images import image_tensor

DEATH = 5.0  # seconds within which a process that lost its connection is seen to end


@dataclass(frozen=True)
class Failed:
    """Item `position` of a batch raised `cause`; where it is None, the batch could not be made."""

    position: int | None
    cause: Exception


@dataclass(frozen=True)
class Items(td.Dataset[Any]):
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


def batches(items: Items, size: int, collate: Callable[[list[Any]], Any], workers: int) -> Iterator[Any]:
    """`items` in order, `size` of them at a time, loaded by `workers` processes (0: by this one).

    Raises `SourceError` where one of those dies while its batch is waited for; who is busy with another batch then gets
    torch's `RuntimeError`, which comes by a signal.
    """
    loader: Any = td.DataLoader(
        items, size, num_workers=workers, collate_fn=Collate(collate), generator=torch.Generator()
    )
    others, own = multiprocessing.active_children(), []
    try:
        found = iter(loader)
        own = [child for child in multiprocessing.active_children() if child not in others]
        yield from found
    except (RuntimeError, ConnectionError, EOFError) as cause:
        if not workers or (isinstance(cause, RuntimeError) and "DataLoader worker" not in str(cause)):
            raise
        if not _see_off(own) and not isinstance(cause, RuntimeError):
            raise
        told = str(cause) or type(cause).__name__
        raise SourceError(f"a process that loads samples died ({told}); load with num_workers=0") from cause


def _see_off(children: list[Any]) -> bool:
    """Whether one of them died. Its end is waited for: its connection ends first, and torch, told of the end by a
    signal, would raise in whatever this process does by then."""
    left, deadline = children, time.monotonic() + DEATH
    while left:
        with suppress(RuntimeError):
            ended = connection.wait([child.sentinel for child in left], max(deadline - time.monotonic(), 0.0))
            if not ended:
                return False
            for child in left:
                if child.sentinel in ended:
                    child.join()
        if any(child.exitcode for child in left):
            return True
        left = [child for child in left if child.exitcode is None]
    return False


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
