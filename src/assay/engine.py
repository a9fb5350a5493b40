"""A pass over the data as shard tasks: on any executor, resumable, the same bytes for any number of workers.

A task is pure: it computes one file from its arguments. The file appears under its name only when it is complete, and
a task whose file is there is not done again, so a pass that was interrupted anywhere continues by calling it again.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    Future,
    as_completed,
    wait,
)
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError

from .errors import AssayError, EngineError, OutputError
from .pool import executor
from .threads import one_blas_thread

SHARD_ROWS = 16_384


@runtime_checkable
class Progress(Protocol):
    """Is told how a stage goes on; always from the thread that called `run`."""

    def start(self, stage: str, total: int) -> None: ...
    def advance(self, n: int = 1) -> None: ...
    def done(self) -> None: ...


@dataclass(frozen=True)
class Task:
    """`function(*arguments, temporary)` writes the file `temporary`, which then becomes `output`.

    On a process pool the function is named by its module, and the arguments are pickled: pass paths, not tensors.
    """

    function: Callable[..., object]
    arguments: tuple[Any, ...]
    output: Path


def shard_ranges(rows: int, shard_rows: int = SHARD_ROWS) -> list[tuple[int, int]]:
    """[start, stop) of each shard; a function of the rows alone, never of the workers."""
    return [(start, min(start + shard_rows, rows)) for start in range(0, rows, shard_rows)]


def run(
    tasks: Iterable[Task],
    *,
    workers: int | Executor | None = None,
    progress: Progress | None = None,
    stage: str = "",
    rounds: int = 3,
) -> None:
    """Does every task whose output is missing.

    workers: None for threads of this process, a number for that many spawned processes, or any executor (it is left
    open; its processes keep torch at one thread). Each task runs with one torch thread.
    A task that fails stops the pass: what is pending is cancelled and its error raised, `OutputError` where its file
    could not be written. A killed worker is survived by a new pool, at most `rounds` pools, then `EngineError`. Ctrl-C
    lets the running tasks finish and drops the others.
    """
    tasks = list(tasks)
    missing = [task for task in tasks if not task.output.exists()]
    if progress:
        progress.start(stage, len(tasks))
        progress.advance(len(tasks) - len(missing))
    try:
        with one_blas_thread() as threads:
            for _ in range(rounds):
                _prepare(missing)
                if not missing or _round(missing, workers, threads, progress):
                    return
                missing = [task for task in missing if not task.output.exists()]
    finally:
        if progress:
            progress.done()
    if missing:
        raise _still_missing(missing, len(tasks), stage, rounds)


def _round(tasks: Sequence[Task], workers: int | Executor | None, threads: int, progress: Progress | None) -> bool:
    """One executor's work on the tasks; False where its workers died."""
    with executor(workers, threads) as pool:
        futures: list[Future[None]] = []
        try:
            futures += [pool.submit(_perform, task) for task in tasks]
            return _collect(futures, progress)
        except BrokenExecutor:
            return False
        finally:
            for future in futures:
                future.cancel()
            wait(futures)


def _collect(futures: Sequence[Future[None]], progress: Progress | None) -> bool:
    whole = True
    for future in as_completed(futures):
        try:
            future.result()
        except BrokenExecutor:
            whole = False
        else:
            if progress:
                progress.advance()
    return whole


def _perform(task: Task) -> None:
    """In the worker, which may be a thread or a process of an executor that knows nothing of torch's threads."""
    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)
    with atomic(task.output, resumes=True) as temporary:
        task.function(*task.arguments, temporary)


def _prepare(tasks: Sequence[Task]) -> None:
    """The folders of the outputs, without what killed workers left half written there."""
    for folder in {task.output.parent for task in tasks}:
        stale = {(task.output.stem, task.output.suffix) for task in tasks if task.output.parent == folder}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path in folder.glob(".*.tmp*"):
                if (path.name[1:].rpartition(".tmp")[0].rpartition(".")[0], path.suffix) in stale:
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"{folder} cannot be written: {error}; name another folder") from error


def _still_missing(missing: Sequence[Task], total: int, stage: str, rounds: int) -> EngineError:
    name = stage or "the pass"
    return EngineError(
        f"{name}: {len(missing)} of {total} shards are still missing, the first is {missing[0].output}; "
        f"workers died in each of {rounds} rounds, for want of memory perhaps (use fewer), or because the calling "
        'script lacks `if __name__ == "__main__":`. The finished shards are kept: the same call resumes'
    )


@contextmanager
def atomic(path: str | os.PathLike[str], *, resumes: bool = False) -> Generator[Path]:
    """A temporary path beside `path`, with its suffix, that takes its place on success and is removed on failure.

    A failure to write is an `OutputError`, which says so where the work `resumes` with what it has finished.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}-{threading.get_ident()}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        if isinstance(error, AssayError) or _is_of_another(error, temporary):
            raise
        raise OutputError(
            f"{path} cannot be written: {error}; free some space or make the folder writable"
            + (". What was finished before is kept: the same call resumes" if resumes else "")
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _is_of_another(error: OSError | SafetensorError, temporary: Path) -> bool:
    """A file that is missing, but not the one to be written."""
    return isinstance(error, FileNotFoundError) and str(error.filename) != str(temporary) and temporary.parent.is_dir()


@contextmanager
def stage(progress: Progress | None, name: str, total: int) -> Generator[Callable[[], None]]:
    """Work that is not a pass of shards, told to `progress`: call what it yields after each of the `total` steps."""
    if progress is None:
        yield lambda: None
        return
    progress.start(name, total)
    try:
        yield progress.advance
    finally:
        progress.done()


def write_json(path: str | os.PathLike[str], obj: Any) -> None:
    """The object as JSON with sorted keys, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(obj, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def manifest(paths: Iterable[Path], rows: Iterable[int]) -> list[dict[str, Any]]:
    """File name, rows and SHA-256 of each shard."""
    return [
        {"file": path.name, "rows": count, "sha256": _sha256(path)} for path, count in zip(paths, rows, strict=True)
    ]


def check_manifest(folder: str | os.PathLike[str], manifest: Iterable[Mapping[str, Any]]) -> None:
    """Raises `OutputError` naming the first shard of the folder that is missing or damaged."""
    for entry in manifest:
        path = Path(folder) / entry["file"]
        if not path.is_file():
            raise OutputError(f"{path} is missing, but belongs to this audit; restore it, or run the audit again")
        if _sha256(path) != entry["sha256"]:
            raise OutputError(
                f"{path} is damaged: its SHA-256 is not the one of the manifest; restore it, or delete it and run the "
                "audit again"
            )


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def rich_progress() -> Progress:
    """A bar with the time left, on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return _Rich(Bars(*columns, TextColumn("left"), TimeRemainingColumn(), console=Console(stderr=True)))


class _Rich:
    def __init__(self, bars: Any) -> None:
        self.bars = bars

    def start(self, stage: str, total: int) -> None:
        self.bars.start()
        self.bar = self.bars.add_task(stage, total=total)

    def advance(self, n: int = 1) -> None:
        self.bars.advance(self.bar, n)

    def done(self) -> None:
        self.bars.stop()
