"""Small tables whose suspects are known, and what two audits are compared by."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

RNG = np.random.default_rng(0)
N = 240
WORDS = np.array(["ant", "bee", "cat"])
TRUTH = RNG.integers(0, 3, N)
X = RNG.normal(size=(N, 4))
X[:, :3] += 2.5 * np.eye(3)[TRUTH]
FLIPPED = np.sort(RNG.choice(N, 12, replace=False))
CODES = TRUTH.copy()
CODES[FLIPPED] = (TRUTH[FLIPPED] + 1) % 3
Y = WORDS[CODES]
TARGETS = X @ RNG.normal(size=(4, 2)) + 0.1 * RNG.normal(size=(N, 2))
KEYS = np.array([f"k{i:03d}" for i in range(N)])[::-1]
WEIGHTS = RNG.integers(1, 4, N).astype(float)
NEW = RNG.normal(size=(7, 4)) + 1

SCORES = (
    "confidence", "cooks_distance", "leverage", "logit_variance", "loss", "loo_loss", "loo_margin", "mislabeled_score",
    "under_represented_score", "boundary_score", "label_score",
)  # fmt: skip


def frame(**more: Any) -> dict[str, Any]:
    """The columns f0 … f3 and y."""
    return {**{f"f{j}": X[:, j] for j in range(4)}, "y": Y, **more}


def write(path: Path, rows: Any = slice(None), **more: Any) -> Path:
    """Those columns as a Parquet file in several row groups."""
    pq.write_table(pa.table({name: column[rows] for name, column in frame(**more).items()}), path, row_group_size=50)
    return path


def contents(folder: Path) -> dict[str, str]:
    """Every file of a folder, by its SHA-256."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def strict_json(text: str) -> Any:
    """What any JSON parser reads: no NaN, no infinity."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def numbers(table: pa.Table, name: str) -> np.ndarray:
    return table[name].to_numpy()
