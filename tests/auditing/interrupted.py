"""Audits that are cut off, each in a fork of a process that has imported all it needs; run by test_resume.py.

    python interrupted.py MODE DATA OUT

prints, as JSON, what became of each run: [where it was cut off, exit code (negative: the signal), messages].
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import assay
import assay.cli.audits
from assay.auditing.run import audit

Ended = list[Any]


def forked(
    where: Any, prepare: Callable[[], object], run: Callable[[], object], meanwhile: Callable[[int], object] = abs
) -> Ended:
    """Exit code and stderr of `run` in a process of its own; `meanwhile` here, which is told that process."""
    said, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.dup2(write, 2)
        code = 1
        try:
            prepare()
            run()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(write)
    meanwhile(pid)
    with open(said, encoding="utf-8") as messages:
        text = messages.read()
    return [where, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text]


class Cut:
    """Progress that sends this process a signal when a stage has come so far."""

    def __init__(self, stage: str, advances: int, number: int = signal.SIGINT) -> None:
        self.stage, self.left, self.number, self.now = stage, advances, number, ""

    def start(self, stage: str, total: int) -> None:
        self.now = stage
        self.advance(0)

    def advance(self, n: int = 1) -> None:
        self.left -= n if self.now == self.stage else 0
        if self.now == self.stage and self.left <= 0:
            self.left = 10**9
            os.kill(os.getpid(), self.number)

    def done(self) -> None: ...


def one_file_more() -> None:
    """The fourth file that is complete does not get its name any more; head and curvature are written every time."""
    replace, calls = os.replace, iter(range(1, 10**9))

    def deadly(temporary: Any, path: Any) -> None:
        if Path(path).name != "writable" and next(calls) == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(temporary, path)

    os.replace = deadly


def killed_between_files(data: str, out: str) -> Iterator[Ended]:
    """Each run finishes one to three files more, and leaves the next one under its temporary name."""
    for k in range(200):
        yield (end := forked(k, one_file_more, lambda: audit(data, l2=1e-2, out=out, shard_rows=60)))
        if end[1] != -signal.SIGKILL:
            return


def killed_while_tidying(data: str, out: str) -> Iterator[Ended]:
    def tear() -> None:
        """`work/` is half gone, the audit is finished."""
        real = shutil.rmtree

        def torn(path: Any, *args: Any, **kwargs: Any) -> None:
            if (Path(path) / "trust.json").exists():
                real(Path(path) / "moments")
                os.kill(os.getpid(), signal.SIGKILL)
            real(path, *args, **kwargs)

        shutil.rmtree = torn  # pyright: ignore

    def run() -> None:
        audit(data, l2=1e-2, out=out, shard_rows=100)

    yield forked("tidying", tear, run)
    yield forked("again", lambda: None, run)


def command(data: str, out: str, **options: Any) -> Callable[[], None]:
    """The command line itself, with a progress of ours."""

    def run() -> None:
        if "progress" in options:
            assay.cli.audits.progress = lambda: options["progress"]
        assay.cli.app(["audit", data, "--out", out, "--features", "f*"], prog_name="assay")

    return run


def interrupted_in_every_pass(data: str, out: str) -> Iterator[Ended]:
    for stage, advances in [
        ("read", 0),
        ("choose l2", 2),
        ("fit", 0),
        ("fit", 3),
        ("trim", 1),
        ("score", 0),
        ("check trust", 2),
    ]:
        yield forked(stage, lambda: None, command(data, out, progress=Cut(stage, advances)))
    yield forked("end", lambda: None, command(data, out))


CUTS = [("work/read/part-*", signal.SIGKILL), ("work/moments/*/part-*", signal.SIGINT), ("scores/*", signal.SIGKILL)]


def cut_from_outside(data: str, out: str, *options: str) -> Iterator[Ended]:
    """By a signal that comes once some file is there; Ctrl-C goes to the processes that were started too."""

    def run() -> None:
        assay.cli.app(["audit", data, "--label", "y", "--l2", "1e-3", "--out", out, *options], prog_name="assay")

    def send_when_there(pattern: str, number: int, pid: int) -> None:
        ended, deadline = os.WEXITED | os.WNOHANG | os.WNOWAIT, time.monotonic() + 60
        while not any(Path(out).glob(pattern)):
            if os.waitid(os.P_PID, pid, ended) or time.monotonic() > deadline:
                return
            time.sleep(0.001)
        os.killpg(pid, number) if number == signal.SIGINT else os.kill(pid, number)

    for pattern, number in CUTS:
        yield forked(pattern, os.setsid, run, partial(send_when_there, pattern, number))
    yield forked("end", lambda: None, run)


def on_a_full_disk(data: str, out: str) -> Iterator[Ended]:
    """Files may become a little larger from run to run."""
    limit = 32
    while True:
        limits = (limit, resource.RLIM_INFINITY)
        yield (
            end := forked(limit, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits), command(data, out))  # noqa: B023
        )
        torn = [str(path) for path in Path(out).rglob("*") if ".tmp" in path.name]
        yield ["half written", len(torn), " ".join(torn)]
        if end[1] == 0:
            return
        limit *= 4


if __name__ == "__main__":
    mode, *paths = sys.argv[1:]
    assert assay.audit is audit  # loads what --help does not
    print(json.dumps(list(globals()[mode](*paths))))
