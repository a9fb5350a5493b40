"""Memory is bounded by pages and batches, not by row groups; nothing outside the range is read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assay.errors import SourceError
from assay.sources import open_source

SOURCE = str(Path(__file__).parents[2] / "src")
SCRIPT = """
import sys
from assay.sources import open_source, spill

def peak():
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))

source = open_source(sys.argv[1])
next(source.batches(1024))
before = peak()
rows = sum(len(batch.ids) for batch in source.batches(8192))
spill(source, sys.argv[1] + ".spilled")
print(rows, peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory from /proc")
def test_one_huge_row_group_is_streamed(tmp_path: Path):
    rows, columns = 600_000, 64
    x = np.random.default_rng(0).standard_normal((rows, columns), dtype=np.float32)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), columns)
    table = pa.table({"e": lists, "y": np.arange(rows) % 2})
    pq.write_table(table, tmp_path / "big.parquet", row_group_size=rows, use_dictionary=False)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "big.parquet")]
    said = subprocess.run(command, env={**os.environ, "PYTHONPATH": SOURCE}, capture_output=True, text=True, check=True)
    seen, raised = said.stdout.split()
    assert int(seen) == rows
    assert x.nbytes / 2**20 > 140
    assert float(raised) < 130, "MiB; about 40 to read and 40 to write, the same for any number of rows"


def test_only_the_row_groups_of_the_range_are_read(tmp_path: Path):
    path = tmp_path / "a.parquet"
    table = pa.table({"a": np.random.default_rng(0).standard_normal(3000), "y": np.arange(3000) % 2})
    pq.write_table(table, path, row_group_size=1000, compression="gzip", use_dictionary=["y"])
    source = open_source(path)
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    middle = column.data_page_offset + column.total_compressed_size // 2
    data[middle : middle + 400] = bytes(400)
    path.write_bytes(data)
    for start, stop in [(0, 1000), (2000, 3000), (500, 900), (2999, 3000)]:
        assert sum(len(batch.ids) for batch in source.batches(300, start=start, stop=stop)) == stop - start
    assert source.take([2500, 3]).ids.to_pylist() == [2500, 3]
    with pytest.raises(SourceError, match="cannot be read as Parquet"):
        list(source.batches(300, start=900, stop=1001))


FULL = """
import resource, sys
import numpy as np
from assay.sources import open_source, spill
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
spill(open_source((np.random.default_rng(0).standard_normal((20_000, 8)), np.arange(20_000) % 2)), sys.argv[1])
"""


def test_a_full_disk_while_spilling_is_an_output_error_and_leaves_nothing(tmp_path: Path):
    command = [sys.executable, "-c", FULL, str(tmp_path / "s.parquet")]
    said = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": SOURCE}, capture_output=True, text=True, check=False
    )
    assert said.returncode == 1
    assert "OutputError" in said.stderr
    assert "s.parquet cannot be written" in said.stderr
    assert "free some space" in said.stderr
    assert not list(tmp_path.iterdir())
