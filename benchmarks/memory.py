"""Is memory bounded, and time linear, as the rows grow?

`assay.audit` of a Parquet file with d = 64, C = 10 at several n, each in its own process: peak resident
memory, seconds.

    python benchmarks/memory.py [--rows 100000 1000000]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from record import record

D, CLASSES, CHUNK = 64, 10, 50_000


def write(path: Path, rows: int) -> None:
    """One row group of all rows, as pandas would write it: the hardest case for a reader that must not hold it."""
    rng = np.random.default_rng(0)
    W = 2 * rng.normal(size=(D, CLASSES)) / D**0.5
    columns = {f"f{j}": np.empty(rows, np.float32) for j in range(D)}
    labels = np.empty(rows, np.int64)
    for start in range(0, rows, CHUNK):
        X = rng.normal(size=(min(CHUNK, rows - start), D))
        for j in range(D):
            columns[f"f{j}"][start : start + len(X)] = X[:, j]
        labels[start : start + len(X)] = (X @ W + rng.gumbel(size=(len(X), CLASSES))).argmax(1)
    pq.write_table(pa.table({**columns, "label": labels}), path, row_group_size=rows)


def audit(path: str, out: str) -> None:
    """In its own process: prints seconds and peak memory."""
    import assay

    start = time.perf_counter()
    result = assay.audit(path, label="label", out=out)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak": peak, "trust": result.trust.verdict, "l2": result.info["l2"]}))


def measure(rows: int) -> list[object]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.parquet"
        # written by another process, so that its memory is not ours
        subprocess.run([sys.executable, __file__, "--write", str(path), str(rows)], check=True)
        command = [sys.executable, __file__, "--audit", str(path), f"{folder}/audit"]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return [f"{rows:,}", found["seconds"], 1e6 * found["seconds"] / rows, found["peak"], found["l2"], found["trust"]]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 300_000, 1_000_000])
    parser.add_argument("--audit", nargs=2)
    parser.add_argument("--write", nargs=2)
    options = parser.parse_args()
    if options.audit:
        audit(*options.audit)
    elif options.write:
        write(Path(options.write[0]), int(options.write[1]))
    else:
        rows = [measure(n) for n in options.rows]
        slope = (rows[-1][1] - rows[0][1]) / (options.rows[-1] - options.rows[0])
        record(
            "Memory and time as the rows grow",
            f"`assay.audit` of a Parquet file of one row group, d = {D}, C = {CLASSES}, float32. Wanted: "
            f"peak ≤ 1.5 GiB "
            "(1,536 MiB) and within 15 % of that at 100,000 rows; time linear in n.",
            ["rows", "seconds", "µs a row", "peak MiB", "λ2", "trust"],
            rows,
            [
                f"Peak at the most rows over that at the least: {rows[-1][3] / rows[0][3]:.3f}.",
                f"Beyond the fixed cost (λ2 and trust on a sample of 20,000 rows) {1e6 * slope:.3g} µs a row: reading, "
                "Newton's passes and the scores.",
            ],
        )
