"""Rows in parallel: one chunk of rows a thread, one BLAS thread each.

Many middling products a chunk scale better over rows than inside each product, and the partial sums come back in the
order of the chunks, so the result does not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class _Inside:
    """How many callers have torch at one thread now, and how many it had before the first of them."""

    lock: Lock = field(default_factory=Lock)
    callers: int = 0
    before: int = 1


_inside = _Inside()


@contextmanager
def one_blas_thread() -> Generator[int]:
    """torch's products use one thread inside. Yields how many torch may use, which is restored by the last caller: the
    number belongs to the process, and another caller may be inside already."""
    own = torch.get_num_threads()
    with _inside.lock:
        _inside.callers += 1
        if _inside.callers == 1:
            _inside.before = own
        allowed = _inside.before
    torch.set_num_threads(1)
    try:
        yield allowed
    finally:
        with _inside.lock:
            _inside.callers -= 1
            torch.set_num_threads(own if _inside.callers else _inside.before)


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`map(function, items)` in as many threads as torch may use (`OMP_NUM_THREADS`, `torch.set_num_threads`; the cores
    of this machine where nobody said), results in the order of the items; of one thread, this one."""
    with one_blas_thread() as threads:
        if threads == 1:
            yield from map(function, items)
            return
        with ThreadPoolExecutor(threads) as pool:
            yield from pool.map(function, items)
