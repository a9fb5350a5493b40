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


def bytes_of(out: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((out / "scores").iterdir())}


@pytest.mark.slow
def test_five_kills_change_nothing(tmp_path):
    whole = start(tmp_path / "labels", tmp_path / "whole")
    assert whole.wait() == 0
    kills, out, chance = 0, tmp_path / "torn", random.Random(0)
    while kills < 5:
        torn = start(tmp_path / "labels", out)
        deadline = time.monotonic() + chance.uniform(1.5, 6.0)
        while torn.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        if torn.poll() is not None:  # finished before its time: begin anew
            assert torn.returncode == 0
            out = tmp_path / f"torn-{kills}-{time.monotonic_ns()}"
            continue
        os.kill(torn.pid, signal.SIGKILL)
        torn.wait()
        kills += 1
    assert start(tmp_path / "labels", out).wait() == 0
    assert bytes_of(out) == bytes_of(tmp_path / "whole")
