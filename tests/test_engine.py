"""A pass is complete or absent, never wrong: killed workers, killed runs, full disks, Ctrl-C."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from assay.engine import Task, atomic, check_manifest, manifest, rich_progress, run, shard_ranges, write_json
from assay.errors import EngineError, OutputError, SourceError

SOURCE = str(Path(__file__).parent.parent / "src")


def gram(seed: int, path: Path) -> None:
    """Enough of a product that the number of threads would show in the last bits."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(3000, 60, generator=generator)
    path.write_bytes((x.T @ x).numpy().tobytes() + str(torch.get_num_threads()).encode())


def die_once(marker: Path, path: Path) -> None:
    if not marker.exists():
        marker.touch()
        path.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
    path.write_text("whole")


def die(path: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail(path: Path) -> None:
    path.write_text("half")
    raise SourceError("row 3 is wrong")


def count(folder: Path, name: str, path: Path) -> None:
    (folder / f"{name}-{time.monotonic_ns()}").touch()
    path.write_text(name)


def grams(folder: Path, n: int = 5) -> list[Task]:
    return [Task(gram, (i,), folder / f"part-{i:05}.bin") for i in range(n)]


def contents(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


@pytest.mark.parametrize(("rows", "sizes"), [(0, []), (5, [5]), (10, [10]), (23, [10, 10, 3])])
def test_shards_cover_the_rows_once(rows: int, sizes: list[int]):
    ranges = shard_ranges(rows, 10)
    assert [stop - start for start, stop in ranges] == sizes
    assert [row for start, stop in ranges for row in range(start, stop)] == list(range(rows))


def test_the_same_bytes_from_threads_and_from_1_2_and_4_processes_and_the_users_executors(tmp_path: Path):
    before = torch.get_num_threads()
    run(grams(tmp_path / "threads"))
    truth = contents(tmp_path / "threads")
    assert len(truth) == 5
    for workers in (1, 2, 4):
        run(grams(tmp_path / str(workers)), workers=workers)
        assert contents(tmp_path / str(workers)) == truth
    executors: list[Executor] = [ThreadPoolExecutor(3), ProcessPoolExecutor(1, mp_context=get_context("spawn"))]
    for i, executor in enumerate(executors):
        with executor:
            run(grams(tmp_path / f"own{i}"), workers=executor)
            assert executor.submit(int, "7").result() == 7, "the user's executor is left open"
        assert contents(tmp_path / f"own{i}") == truth
    assert torch.get_num_threads() == before
    assert all((tmp_path / "threads" / name).read_bytes().endswith(b"1") for name in truth)


def test_what_is_there_is_not_done_again(tmp_path: Path):
    tasks = [Task(count, (tmp_path, name), tmp_path / "out" / name) for name in "abc"]
    run(tasks[:2])
    run(tasks)
    assert sorted(p.name[0] for p in tmp_path.glob("*-*")) == ["a", "b", "c"]


def test_a_killed_worker_is_survived(tmp_path: Path):
    marker = tmp_path / "died"
    tasks = [Task(die_once, (marker,), tmp_path / "out" / "a.txt"), *grams(tmp_path / "out", 3)]
    run(tasks, workers=2)
    assert marker.exists()
    assert (tmp_path / "out" / "a.txt").read_text() == "whole"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.txt", *(f"part-{i:05}.bin" for i in range(3))]


def test_a_worker_killed_in_every_round_is_an_error_that_says_what_is_missing(tmp_path: Path):
    with pytest.raises(EngineError, match=r"curvature: 1 of 1 shards .* missing.*a\.bin.*2 rounds.*__main__.*resumes"):
        run([Task(die, (), tmp_path / "a.bin")], workers=1, rounds=2, stage="curvature")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("workers", [None, 1])
def test_a_tasks_own_error_stops_the_pass_and_is_raised_as_it_is(tmp_path: Path, workers: int | None):
    with pytest.raises(SourceError, match="row 3 is wrong"):
        run([Task(fail, (), tmp_path / "a.txt")], workers=workers)
    assert not list(tmp_path.iterdir())


def test_workers_below_one_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="workers=0; give at least 1"):
        run(grams(tmp_path, 1), workers=0)


def test_progress_counts_what_was_there_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    class Told:
        def __init__(self) -> None:
            self.said: list[object] = []

        def start(self, stage: str, total: int) -> None:
            self.said += [stage, total]

        def advance(self, n: int = 1) -> None:
            self.said.append(n)

        def done(self) -> None:
            self.said.append("done")

    told = Told()
    run(grams(tmp_path, 1))
    run(grams(tmp_path, 3), progress=told, stage="scores")
    assert told.said == ["scores", 3, 1, 1, 1, "done"]
    run(grams(tmp_path, 3), progress=rich_progress(), stage="leverage")
    said = capsys.readouterr()
    assert "leverage" in said.err
    assert "3/3" in said.err
    assert not said.out


PARTS = 12
SCRIPT = """
import resource, signal, sys, time
from pathlib import Path
from assay.engine import Task, run

def slow(i, path):
    with open(path, "wb") as file:
        for k in range(20):
            file.write(bytes([i, k]) * 500)
            file.flush()
            time.sleep({nap})

if __name__ == "__main__":
    {before}
    print("on", flush=True)
    run([Task(slow, (i,), Path(sys.argv[1]) / f"part-{{i}}.bin") for i in range(PARTS)], workers={workers})
"""


def script(tmp_path: Path, *, nap: float, workers: int | None, before: str = "pass") -> list[str]:
    path = tmp_path / f"script-{workers}-{nap}.py"
    path.write_text(
        textwrap.dedent(SCRIPT).replace("PARTS", str(PARTS)).format(nap=nap, workers=workers, before=before)
    )
    return [sys.executable, str(path), str(tmp_path / "out")]


def start(command: list[str]) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": SOURCE}, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )


def wait_for(folder: Path, n: int) -> None:
    for _ in range(2000):
        if len(list(folder.glob("part-*"))) >= n:
            return
        time.sleep(0.01)
    raise AssertionError("no shard was finished in 20 s")


def whole(folder: Path) -> bool:
    return all(
        path.read_bytes() == b"".join(bytes([int(path.stem[5:]), k]) * 500 for k in range(20))
        for path in folder.glob("part-*")
    )


@pytest.mark.parametrize("workers", [None, 2])
def test_after_kill_9_at_any_point_the_same_call_gives_the_same_bytes(tmp_path: Path, workers: int | None):
    folder = tmp_path / "out"
    with start(script(tmp_path, nap=0.005, workers=workers)) as process:
        wait_for(folder, 1)
        process.kill()
    assert 0 < len(list(folder.glob("part-*"))) < PARTS
    assert whole(folder)
    again = script(tmp_path, nap=0, workers=None)
    subprocess.run(again, env={**os.environ, "PYTHONPATH": SOURCE}, check=True)
    assert len(list(folder.iterdir())) == PARTS, "what the killed run left half written is gone"
    assert whole(folder)


@pytest.mark.parametrize("workers", [None, 2])
def test_ctrl_c_leaves_only_complete_outputs(tmp_path: Path, workers: int | None):
    folder = tmp_path / "out"
    with start(script(tmp_path, nap=0.005, workers=workers)) as process:
        wait_for(folder, 1)
        os.killpg(process.pid, signal.SIGINT)  # a terminal interrupts the workers too
        _, said = process.communicate(timeout=30)
    assert process.returncode != 0
    assert said.count("KeyboardInterrupt") == 1, "the parent stops; its workers finish what they do and say nothing"
    assert 0 < len(list(folder.iterdir())) < PARTS
    assert all(path.name.startswith("part-") for path in folder.iterdir())
    assert whole(folder)


@pytest.mark.parametrize("workers", [None, 1])
def test_a_full_disk_is_an_output_error_and_leaves_nothing_half_written(tmp_path: Path, workers: int | None):
    full = "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))"
    with start(script(tmp_path, nap=0, workers=workers, before=full)) as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "OutputError" in said
    assert "part-" in said
    assert "free some space" in said
    assert "the same call resumes" in said
    assert not list((tmp_path / "out").iterdir())


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file cannot be written.*name another folder"):
        run(grams(tmp_path / "file", 1))


def test_atomic_replaces_on_success_and_keeps_the_old_on_failure(tmp_path: Path):
    path = tmp_path / "audit.json"
    write_json(path, {"b": 1, "a": [2]})
    assert path.read_text() == '{\n  "a": [\n    2\n  ],\n  "b": 1\n}\n'
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    with pytest.raises(SourceError, match="row 3"), atomic(path) as temporary:
        fail(temporary)
    with atomic(tmp_path / "new.json") as temporary:
        temporary.write_text("{}")
        written = temporary.stat().st_ino
    assert (tmp_path / "new.json").stat().st_ino == written, "renamed, not copied"
    (tmp_path / "new.json").unlink()
    assert path.read_text().startswith('{\n  "a"')
    assert [p.name for p in tmp_path.iterdir()] == ["audit.json"]


def test_atomic_in_a_folder_that_is_not_there_is_an_output_error(tmp_path: Path):
    with pytest.raises(OutputError, match=r"none/x\.json cannot be written"):
        write_json(tmp_path / "none" / "x.json", {})


def test_a_missing_input_is_not_called_an_output_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError) as caught, atomic(tmp_path / "out.bin"):
        (tmp_path / "gone.bin").read_bytes()
    assert not isinstance(caught.value, OutputError)


def test_the_manifest_finds_a_damaged_and_a_missing_shard(tmp_path: Path):
    run(grams(tmp_path, 3))
    paths = sorted(tmp_path.iterdir())
    listed = manifest(paths, [1, 2, 3])
    assert [entry["rows"] for entry in listed] == [1, 2, 3]
    check_manifest(tmp_path, listed)
    data = paths[1].read_bytes()
    paths[1].write_bytes(data[:-1])
    with pytest.raises(OutputError, match=r"part-00001\.bin is damaged"):
        check_manifest(tmp_path, listed)
    paths[1].unlink()
    with pytest.raises(OutputError, match=r"part-00001\.bin is missing"):
        check_manifest(tmp_path, listed)
