"""An audit of a table made as it is read, killed at random moments: it goes on, and ends in the same bytes."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = """
import sys, warnings
from pathlib import Path
import torch, assay
from assay.datasets.acas import hcas_encounters
from assay.models.surrogate import surrogate
warnings.simplefilter("ignore")
torch.set_num_threads(1)
rho = (0.0, 300.0, 600.0, 1500.0, 4000.0)
table = hcas_encounters(Path(sys.argv[1]), pairs=((200.0, 200.0), (600.0, 200.0)), rho=rho, steps=17, held_out=0.2)
torch.manual_seed(0)
net = surrogate([(0.0, 4000.0), (-3.2, 3.2), (-3.2, 3.2), (200.0, 600.0), (0.0, 200.0), (0.0, 60.0)], 5, width=12)
assay.audit(table, model=net, refit=False, damping=1e-3, shard_rows=400, out=sys.argv[2],
            encoding=assay.Encoding(keep="recompute", batch=200))
"""


def start(labels: Path, out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(labels), str(out)])


def wait_for(process: subprocess.Popen[bytes], path: Path) -> bool:
    """True once the file is there, False where the process ended before."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if path.exists():
            return True
        if process.poll() is not None:
            return False
        time.sleep(0.0005)
    raise AssertionError(f"no {path} in 60 s")


def bytes_of(out: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((out / "scores").iterdir())}


@pytest.mark.slow
def test_five_kills_change_nothing(tmp_path):
    """Two in the reading and three in the scoring, each when a shard drawn anew appears that was not there before."""
    whole = start(tmp_path / "labels", tmp_path / "whole")
    assert whole.wait() == 0
    expected = bytes_of(tmp_path / "whole")
    shards = len(expected)
    assert shards == 58
    chance, out, hit = random.Random(0), tmp_path / "torn", 0
    places = [out / "work" / "read" / f"part-{k:05d}.npz" for k in sorted(chance.sample(range(shards - 4), 2))]
    places += [out / "scores" / list(expected)[k] for k in sorted(chance.sample(range(shards - 4), 3))]
    for path in places:
        assert not path.exists(), "a later kill is in a shard that the earlier ones had not reached"
        torn = start(tmp_path / "labels", out)
        assert wait_for(torn, path), f"it ended before {path} was there"
        os.kill(torn.pid, signal.SIGKILL)
        assert torn.wait() == -signal.SIGKILL
        assert not (out / "audit.json").exists()
        hit += 1
    assert hit == 5
    assert start(tmp_path / "labels", out).wait() == 0
    assert bytes_of(out) == expected
