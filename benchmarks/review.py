"""Is the server of the review page quick and small, however many rows there are?

The score shards of an audit (d = 8, C = 5, 2 % of the labels flipped), repeated to several n; then `assay review` in
its own process: the first page after the start, filters, a rank, a decision until it is on disk, and the memory of the
server. A page that Starlette answers with a constant, in the same run, says what a request costs here at least.

    python benchmarks/review.py [--rows 100000 1000000]
"""

from __future__ import annotations

import argparse
import http.client
import json
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from record import record

ASSAY = str(Path(sys.executable).with_name("assay"))
D, CLASSES = 8, 5
REAL, SHARD = 20_000, 16_384
MOVED = ("cooks_distance", "mislabeled_score", "under_represented_score", "boundary_score", "confidence")
FILTERS = {
    "filter by class": "queue=mislabeled&given=2&status=open",
    "filter by score": "queue=all&low=1&high=100",
    "pair of classes": "queue=all&given=1&suggested=3",
    "rank in the middle": "queue=all&rank={middle}",
}
BARE = """
import sys, uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
async def page(request): return PlainTextResponse("x")
uvicorn.run(Starlette(routes=[Route("/", page)]), port=int(sys.argv[1]), log_level="error", http="h11")
"""


class Server:
    """`assay review` as an expert starts it, and one kept connection to it."""

    def __init__(self, audit: str) -> None:
        self.started = time.perf_counter()
        command = [ASSAY, "review", audit, "--no-browser", "--user", "bench"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        url = urllib.parse.urlsplit(self.process.stdout.readline().split()[1])
        self.ready = time.perf_counter() - self.started
        self.host = url.netloc
        self.connection = http.client.HTTPConnection(self.host)
        self.headers: dict[str, str] = {}
        self.connection.request("GET", f"/?{url.query}")
        answer = self.connection.getresponse()
        answer.read()
        self.headers["Cookie"] = (answer.getheader("Set-Cookie") or "").split(";")[0]
        self.headers["X-Assay"] = self.get("/api/session")["csrf"]

    def get(self, path: str) -> Any:
        self.connection.request("GET", path, headers=self.headers)
        return json.loads(self.connection.getresponse().read())

    def post(self, path: str, body: Any) -> Any:
        headers = {**self.headers, "Origin": f"http://{self.host}", "Content-Type": "application/json"}
        self.connection.request("POST", path, json.dumps(body), headers)
        return json.loads(self.connection.getresponse().read())

    def memory(self) -> tuple[float, float]:
        """Resident MiB now and at the most."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = dict(line.split(":", 1) for line in status.splitlines())
        return tuple(int(found[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))  # type: ignore[return-value]

    def end(self) -> None:
        self.process.terminate()
        self.process.wait()


def timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def bare(count: int = 200) -> float:
    """Milliseconds of a request to a constant page."""
    port = 18_734
    process = subprocess.Popen([sys.executable, "-c", BARE, str(port)])
    try:
        for _ in range(100):
            time.sleep(0.1)
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port)
                connection.connect()
                break
            except OSError:
                continue

        def ask() -> None:
            connection.request("GET", "/")
            connection.getresponse().read()

        return median([timed(ask) for _ in range(count)])
    finally:
        process.terminate()
        process.wait()


def audited(folder: str, rows: int) -> str:
    """A real audit of `REAL` rows, its score shards laid out again up to `rows`, scores a little moved: the server
    reads nothing else."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(REAL, D)).astype(np.float32)
    y = (X @ (2 * rng.normal(size=(D, CLASSES))) + rng.gumbel(size=(REAL, CLASSES))).argmax(1)
    flipped = rng.random(REAL) < 0.02
    y[flipped] = (y[flipped] + 1) % CLASSES
    path, audit = f"{folder}/data.parquet", Path(folder) / "audit"
    pq.write_table(pa.table({**{f"f{j}": X[:, j] for j in range(D)}, "label": y}), path)
    command = [ASSAY, "audit", path, "--label", "label", "--l2", "1e-3", "--out", str(audit)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    _repeat(audit, rows, rng)
    return str(audit)


def _repeat(audit: Path, rows: int, rng: np.random.Generator) -> None:
    info = json.loads((audit / "audit.json").read_text())
    real = pa.concat_tables(pq.read_table(audit / "scores" / entry["file"]) for entry in info["manifest"])
    info |= {"rows": rows, "manifest": []}
    for k, start in enumerate(range(0, rows, SHARD)):
        table = real.take(pa.array(rng.integers(0, REAL, min(SHARD, rows - start))))
        moved = {name: pa.array(table[name].to_numpy() * rng.uniform(0.9, 1.0, len(table))) for name in MOVED}
        moved |= {name: pa.array(np.arange(start, start + len(table))) for name in ("row", "id")}
        for name, column in moved.items():
            table = table.set_column(table.schema.get_field_index(name), name, column)
        pq.write_table(table, audit / "scores" / f"part-{k:05d}.parquet", compression="zstd")
        info["manifest"].append({"file": f"part-{k:05d}.parquet", "rows": len(table), "sha256": str(k)})
    (audit / "audit.json").write_text(json.dumps(info))


def measure(rows: int) -> list[list[object]]:
    with tempfile.TemporaryDirectory() as folder:
        audit = audited(folder, rows)
        server = Server(audit)
        first_start = server.ready
        server.end()
        server = Server(audit)
        try:
            page = timed(lambda: server.get("/api/queue?queue=all&limit=60"))
            found: list[list[object]] = [
                ["start, columns written", 1000 * first_start],
                ["start", 1000 * server.ready],
                ["first page", page],
            ]
            for name, query in FILTERS.items():
                path = f"/api/queue?limit=60&{query.format(middle=rows // 2)}"
                found.append([name, median([timed(lambda path=path: server.get(path)) for _ in range(9)])])
            total = server.get("/api/queue?queue=all&limit=60")
            deep = urllib.parse.quote(total["next"])
            found.append(
                ["next page", median([timed(lambda: server.get(f"/api/queue?after={deep}")) for _ in range(9)])]
            )
            wanted = [item["row"] for item in server.get("/api/queue?queue=mislabeled&limit=200")["items"]]
            decided = [timed(lambda row=row: _decide(server, row)) for row in wanted]
            found.append(["a decision, on disk", median(decided)])
            found.append(["the same, 95th percentile", float(np.quantile(decided, 0.95))])
            looked = [timed(lambda row=row: _decided(server, row)) for row in wanted[:9]]
            found.append(["a decision, progress and what to expect", median(looked)])
            now, most = server.memory()
            found += [["memory of the server, MiB", now], ["at the most, MiB", most]]
        finally:
            server.end()
    return found


def _decide(server: Server, row: int) -> None:
    server.post("/api/decide", {"rows": [row], "action": "relabel"})


def _decided(server: Server, row: int) -> None:
    _decide(server, row)
    server.get("/api/progress?queue=mislabeled")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    options = parser.parse_args()
    least = bare()
    columns = [measure(n) for n in options.rows]
    table = [[row[0], *(column[k][1] for column in columns)] for k, row in enumerate(columns[0])]
    record(
        "The review page's server",
        f"`assay review` of a table, d = {D}, C = {CLASSES}; milliseconds of a request over one connection. "
        "Wanted at a million rows: first page under 1,000, a filter under 200, memory under 300 MiB.",
        ["what", *(f"{n:,} rows" for n in options.rows)],
        table,
        [
            f"A constant page by Starlette alone, in the same run: {least:.2g} ms.",
            "The first start writes the flat columns (60 bytes a row) beside the shards; memory is of the process that "
            "serves, without the workers that hold torch.",
        ],
    )
