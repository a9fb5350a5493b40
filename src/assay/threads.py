"""Rows in parallel: one chunk of rows a thread, one BLAS thread each.

Many middling products a chunk scale better over rows than inside each product, and the partial sums come back in the
order of the chunks, so the result does not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def one_blas_thread() -> Generator[None]:
    """torch's products use one thread inside; what was set before is restored."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`map(function, items)` in as many threads as torch may use (`OMP_NUM_THREADS`, `torch.set_num_threads`; the cores
    of this machine where nobody said), results in the order of the items."""
    threads = torch.get_num_threads()
    with one_blas_thread(), ThreadPoolExecutor(threads) as pool:
        yield from pool.map(function, items)
