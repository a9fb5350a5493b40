"""Runs the peers and ours on the same arrays, alternating, each in a process and environment of its own.

    python benchmarks/peers/compare.py speed.npz ENVIRONMENTS [--runs 2]

`ENVIRONMENTS` holds one virtual environment a peer, made as README.md says; one that is not there is passed over.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from record import record  # noqa: E402

WAYS = ("exact path", "exact path with leave-one-out", "EKFAC", "WideHead")
OURS = [("assay", "assay_last_layer", way) for way in WAYS]
PEERS = [("pydvl", "pydvl_direct"), ("kronfluence", "kronfluence_ekfac"), ("pyinfluence", "pyinfluence_binary")]
ONCE = [("dattri", "dattri_explicit"), ("captum", "captum_influence")]  # long, or no rival
NUMBERS = ("s", "CPU s", "MiB", "median error", "top tenth", "scale")


def ask(python: Path, script: str, *given: str) -> list[dict[str, float]]:
    """The lines of JSON that a script prints."""
    done = subprocess.run(
        [str(python), str(HERE / f"{script}.py"), *given], capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
    )  # fmt: skip
    lines = [json.loads(line[line.index('{"method"') :]) for line in done.stdout.splitlines() if '{"method"' in line]
    if not lines:
        print(f"{script}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("arrays")
    parser.add_argument("environments", type=Path)
    parser.add_argument("--runs", type=int, default=2)
    given = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {}
    for run in range(given.runs):
        jobs = [(Path(sys.executable), script, given.arrays, which) for _, script, which in OURS]
        jobs.append((Path(sys.executable), "assay_binary", given.arrays))
        peers = PEERS + (ONCE if run == 0 else [])
        jobs += [(given.environments / name / "bin" / "python", script, given.arrays) for name, script in peers]
        for python, script, *rest in jobs:
            for line in ask(python, script, *rest) if python.exists() else []:
                found.setdefault(str(line["method"]), []).append(line)
                print(line, flush=True)
    base = median(line["CPU s"] for line in found["assay, exact path"])
    rows: list[list[object]] = []
    for name, lines in found.items():
        told = [f"{median(line[number] for line in lines):.3g}" for number in NUMBERS]
        over = median(line["CPU s"] for line in lines) / base
        rows.append([name, f"{int(lines[0]['rows']):,}", *told[:2], f"{over:.2g}", *told[2:]])
    record(
        "Self-influence of a last layer, beside other libraries",
        "n = 50,000, d = 64, C = 10, damping 1e-4, the same saved arrays; each method in a process of its own, one "
        f"thread, alternating, median of {given.runs} (dattri and captum once).",
        ["method", "rows", "s", "CPU s", "CPU over ours", "MiB", "median error", "in the top tenth", "scale"],
        rows,
        [
            "MiB over what stood before the method began. Errors against the dense float64 answer; a sign or a factor "
            "n of a library's own is undone. TracIn has no curvature and estimates something else; dattri's Hessian "
            "came out smaller by about its number of batches, 13, the last of them ragged.",
            "CPU over ours: over the exact path of the same ten classes.",
        ],
    )
