"""Whatever cuts an audit off, the same call finishes it with the bytes of an undisturbed one."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from audits import TARGETS, contents, frame, write

import assay

HERE = Path(__file__).parent


def cut_off(mode: str, data: Path, out: Path, *options: str) -> list[Any]:
    """What became of each run of interrupted.py."""
    done = subprocess.run(
        [sys.executable, str(HERE / "interrupted.py"), mode, str(data), str(out), *options],
        capture_output=True, text=True, check=True, timeout=240,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def undisturbed(data: Path, out: Path, **arguments: Any) -> dict[str, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", assay.AssayWarning)
        assay.audit(data, features="f*", out=out, **arguments)
    return contents(out)


def test_any_number_of_workers_gives_the_same_bytes(tmp_path: Path):
    path = write(tmp_path / "a.parquet", t=TARGETS[:, 0])
    for name, workers in {"none": None, "three": 3}.items():
        assay.audit(path, label="t", features="f*", l2=1e-2, shard_rows=50, workers=workers, out=tmp_path / name)
    with ThreadPoolExecutor(3) as threads:
        assay.audit(path, label="t", features="f*", l2=1e-2, shard_rows=50, workers=threads, out=tmp_path / "own")
        assert threads.submit(int, "7").result() == 7, "the user's executor is left open"
    truth = contents(tmp_path / "none")
    assert len(truth) == 3 + 5
    for name in ("three", "own"):
        assert contents(tmp_path / name) == truth, name


class KillAWorker:
    """Progress that kills one worker when the first score shard is there."""

    def __init__(self) -> None:
        self.stage, self.killed = "", 0

    def start(self, stage: str, total: int) -> None:
        self.stage = stage

    def advance(self, n: int = 1) -> None:
        if self.stage == "score" and n and not self.killed:
            self.killed = multiprocessing.active_children()[0].pid or 0
            os.kill(self.killed, signal.SIGKILL)

    def done(self) -> None: ...


def test_a_worker_killed_while_it_scores_is_survived(tmp_path: Path):
    path = write(tmp_path / "a.parquet", t=TARGETS[:, 0])
    assassin = KillAWorker()
    for name, more in {"killed": {"workers": 2, "progress": assassin}, "whole": {}}.items():
        assay.audit(path, label="t", features="f*", l2=1e-2, shard_rows=5, out=tmp_path / name, **more)
    assert assassin.killed
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


@pytest.mark.slow
def test_killed_again_and_again_between_two_files(tmp_path: Path):
    path = tmp_path / "a.csv"
    pd.DataFrame(frame()).to_csv(path, index=False)
    ends = cut_off("killed_between_files", path, tmp_path / "cut")
    assert len(ends) > 24
    assert {code for _, code, _ in ends[:-1]} == {-signal.SIGKILL}
    assert ends[-1][1] == 0, ends[-1]
    assert contents(tmp_path / "cut") == undisturbed(path, tmp_path / "whole", l2=1e-2, shard_rows=60)


def test_killed_while_it_tidies_up(tmp_path: Path):
    path = write(tmp_path / "a.parquet")
    ends = cut_off("killed_while_tidying", path, tmp_path / "cut")
    assert [code for _, code, _ in ends] == [-signal.SIGKILL, 0], ends
    assert contents(tmp_path / "cut") == undisturbed(path, tmp_path / "whole", l2=1e-2, shard_rows=100)


def test_ctrl_c_in_every_pass(tmp_path: Path):
    path = write(tmp_path / "a.parquet")
    *ends, last = cut_off("interrupted_in_every_pass", path, tmp_path / "cut")
    assert [(stage, code) for stage, code, _ in ends] == [(stage, 130) for stage, _, _ in ends]
    assert [stage for stage, _, _ in ends] == ["read", "choose l2", "fit", "fit", "trim", "score", "check trust"]
    for _, _, said in ends:
        assert said == "assay: interrupted; the same command goes on where it stopped\n"
    assert last[1] == 0, last
    assert contents(tmp_path / "cut") == undisturbed(path, tmp_path / "whole")


def test_a_full_disk_loses_nothing(tmp_path: Path):
    path = tmp_path / "a.csv"
    pd.DataFrame(frame()).to_csv(path, index=False)
    ends = cut_off("on_a_full_disk", path, tmp_path / "cut")
    runs, torn = ends[::2], ends[1::2]
    assert len(runs) > 6
    assert runs[-1][1] == 0
    for limit, code, said in runs[:-1]:
        assert code == 1, limit
        assert said.startswith("assay: "), said
        assert "cannot be written" in said, said
        assert "free some space" in said
        assert "Traceback" not in said
    assert [count for _, count, _ in torn] == [0] * len(torn), torn
    assert contents(tmp_path / "cut") == undisturbed(path, tmp_path / "whole")


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards, and a few seconds of work."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 40_000)
    x = rng.normal(size=(40_000, 12)) + np.eye(4)[y] @ rng.normal(size=(4, 12))
    path = tmp_path_factory.mktemp("larger") / "a.parquet"
    pq.write_table(pa.table({**{f"f{j}": x[:, j] for j in range(12)}, "y": y}), path)
    return path


@pytest.mark.parametrize(
    "workers", [[], pytest.param(["--workers", "2"], marks=pytest.mark.slow)], ids=["threads", "processes"]
)
def test_the_command_line_is_killed_and_interrupted_from_outside(workers: list[str], larger: Path, tmp_path: Path):
    *ends, last = cut_off("cut_from_outside", larger, tmp_path / "cut", *workers)
    assert [code for _, code, _ in ends] == [-signal.SIGKILL, 130, -signal.SIGKILL], ends
    assert ends[1][2] == "assay: interrupted; the same command goes on where it stopped\n"
    assert last[1] == 0, last
    assert contents(tmp_path / "cut") == undisturbed(larger, tmp_path / "whole", label="y", l2=1e-3)
