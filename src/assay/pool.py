"""Where tasks run: threads of this process, processes that outlive a pass, or the user's own executor.

On Linux processes are forked from one that has done nothing but import (multiprocessing's forkserver): the second
starts at once, and they share the memory of what is imported. Elsewhere they are spawned, each with its own imports; a
process forked on macOS may not use what the system's frameworks had begun.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Result = TypeVar("Result")

IMPORTED = ["assay.auditing.passes"]
"""By the process that others are forked from: what most tasks are of, torch with it. The threads that this starts are
OpenBLAS's and jemalloc's, which mind a fork."""


class Processes(Executor):
    """`count` processes: started when first needed, replaced by new ones where one of them died."""

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ValueError(f"workers={count}; give at least 1, an executor, or None for threads")
        self.count = count
        self._pool: ProcessPoolExecutor | None = None

    def submit(self, fn: Callable[Given, Result], /, *args: Given.args, **kwargs: Given.kwargs) -> Future[Result]:
        """Runs `fn` in a process; what was submitted to processes that died is to be submitted again."""
        self._pool = self._pool or _processes(self.count)
        try:
            return self._pool.submit(fn, *args, **kwargs)
        except BrokenExecutor:
            self.shutdown()
            self._pool = _processes(self.count)
            return self._pool.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=wait, cancel_futures=cancel_futures)


@contextmanager
def executor(workers: int | Executor | None, threads: int | None = None) -> Generator[Executor]:
    """Threads for None (so many, or one a core), that many processes for a number; an executor is yielded as it is and
    left open."""
    if isinstance(workers, Executor):
        yield workers
        return
    own = ThreadPoolExecutor(threads or os.cpu_count()) if workers is None else Processes(workers)
    try:
        yield own
    finally:
        own.shutdown(wait=True, cancel_futures=True)


def _processes(count: int) -> ProcessPoolExecutor:
    pool = ProcessPoolExecutor(count, mp_context=_context(), initializer=_start_worker, initargs=(dict(os.environ),))
    with _deaf():
        for _ in range(count):  # each starts a process
            pool.submit(os.getpid)
    return pool


def _context() -> BaseContext:
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    return context


@contextmanager
def _deaf() -> Generator[None]:
    """Ctrl-C is ignored inside, and for good by the processes that start here: it is the parent's to answer."""
    before = signal.getsignal(signal.SIGINT)
    if before is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _start_worker(environment: dict[str, str]) -> None:
    """In each process: the parent's environment as it is now, not as it was when the server started; no ear for Ctrl-C,
    whoever started that; no life after the parent's, which may have been killed."""
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def outlive() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=outlive, daemon=True).start()
