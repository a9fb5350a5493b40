"""Where tasks run: threads of this process, spawned processes that outlive a pass, or the user's own executor."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Result = TypeVar("Result")

_STARTING = threading.Lock()  # so that it is known whose the processes are that have just started


class Processes(Executor):
    """`count` spawned processes: started when first needed, replaced by new ones where one of them died."""

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ValueError(f"workers={count}; give at least 1, an executor, or None for threads")
        self.count = count
        self._pool: ProcessPoolExecutor | None = None
        self._running: list[BaseProcess] = []
        self._ended = False
        self._lock = threading.Lock()

    def submit(self, fn: Callable[Given, Result], /, *args: Given.args, **kwargs: Given.kwargs) -> Future[Result]:
        """Runs `fn` in a process; what was submitted to processes that died is to be submitted again."""
        with self._lock:
            if self._ended:
                raise RuntimeError("no task is taken after shutdown()")
            pool = self._pool or self._start()
            try:
                return pool.submit(fn, *args, **kwargs)
            except BrokenExecutor:
                pool.shutdown()
                return self._start().submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        with self._lock:
            self._ended = True
        if self._pool is not None:
            self._pool.shutdown(wait=wait, cancel_futures=cancel_futures)

    def terminate(self) -> None:
        """shutdown(), whatever the processes are at; with them goes what another thread started while they were."""
        with self._lock:
            self._ended = True
        for process in self._running:
            process.terminate()
        self.shutdown()

    def _start(self) -> ProcessPoolExecutor:
        with _STARTING:
            others = multiprocessing.active_children()
            self._pool = _spawned(self.count)
            self._running = [child for child in multiprocessing.active_children() if child not in others]
        return self._pool


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


def _spawned(count: int) -> ProcessPoolExecutor:
    pool = ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker)
    with _deaf():
        for _ in range(count):  # each starts a process
            pool.submit(os.getpid)
    return pool


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


def _start_worker() -> None:
    """In each process: no life after the parent's, which may have been killed."""
    parent = multiprocessing.parent_process()

    def outlive() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=outlive, daemon=True).start()
