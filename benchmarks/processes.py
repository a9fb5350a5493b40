"""What does it take to have processes ready for an audit's shards: forked from one with the imports, or spawned?

Each start in a process of its own, the two kinds in turn: until every process has imported what a pass needs. Memory is
the proportional share (PSS) of the processes and of the one they are forked from.

    python benchmarks/processes.py [--runs 5] [--workers 1 2 4]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

from record import record, spread

KINDS = ("spawn", "forkserver")


def ready(_: int) -> None:
    """In a process: what a pass needs, and long enough that no process takes two."""
    import_module("assay.auditing.passes")
    time.sleep(0.2)


def pss(pid: int) -> float:
    """MiB of a process and all below it."""
    own = re.search(r"^Pss: +(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return (int(own[1]) / 1024 if own else 0.0) + sum(pss(int(child)) for child in children)


def start(kind: str, workers: int) -> None:
    """In its own process: prints seconds and memory."""
    from assay import pool

    if kind == "spawn":
        pool._context = lambda: multiprocessing.get_context("spawn")  # pyright: ignore[reportPrivateUsage]
    before = pss(multiprocessing.current_process().pid or 0)
    began = time.perf_counter()
    with pool.executor(workers) as processes:
        list(processes.map(ready, range(workers)))
        seconds = time.perf_counter() - began - 0.2
        memory = pss(multiprocessing.current_process().pid or 0) - before
    print(json.dumps({"seconds": seconds, "memory": memory}))


def measure(workers: int, runs: int) -> list[list[object]]:
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for _ in range(runs):
        for kind in KINDS:
            command = [sys.executable, __file__, "--start", kind, "--workers", str(workers)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found[kind].append(json.loads(done.stdout))
    of = {(kind, what): [run[what] for run in runs] for kind, runs in found.items() for what in ("seconds", "memory")}
    return [[workers, kind, spread(of[kind, "seconds"]), spread(of[kind, "memory"])] for kind in KINDS]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--start", choices=KINDS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.start:
        start(given.start, given.workers[0])
    else:
        record(
            "Processes for an audit",
            "Until so many processes have torch and what a pass needs; median and extremes.",
            ["processes", "kind", "seconds", "MiB"],
            [row for workers in given.workers for row in measure(workers, given.runs)],
            ["On Linux `assay` forks; elsewhere it spawns."],
        )
