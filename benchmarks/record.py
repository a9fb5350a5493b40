"""Keeps what a benchmark measured: one JSON a question with its environment, and RESULTS.md drawn from all of them."""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results"


def environment() -> dict[str, Any]:
    packages = {name: version(name) for name in ("assay", "torch", "numpy", "scikit-learn", "pyarrow")}
    return {"python": platform.python_version(), "cores": os.cpu_count(), "processor": _processor(), **packages}


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def record(title: str, asked: str, header: list[str], rows: list[list[Any]], notes: list[str]) -> None:
    """Writes results/<script>.json and RESULTS.md anew."""
    name = Path(sys.argv[0]).stem
    script = Path(sys.argv[0]).resolve()
    place = script.relative_to(HERE) if script.is_relative_to(HERE) else script.name
    given = (Path(each).name if Path(each).is_absolute() else each for each in sys.argv[1:])  # no machine's paths
    command = f"python benchmarks/{place} {' '.join(given)}".strip()
    RESULTS.mkdir(exist_ok=True)
    found = {
        "title": title, "asked": asked, "command": command, "environment": environment(), "header": header,
        "rows": rows, "notes": notes,
    }  # fmt: skip
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    pages = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))]
    text = (
        "# What was measured\n\nDrawn from `benchmarks/results/*.json` by the scripts themselves; two noisy cores, so "
    )
    text += "read the ratios. `make bench` runs all of them.\n"
    (HERE / "RESULTS.md").write_text(text + "".join(_page(page) for page in pages), encoding="utf-8")
    print(_page(found))


def _page(found: dict[str, Any]) -> str:
    lines = ["", f"## {found['title']}", "", found["asked"], "", "| " + " | ".join(found["header"]) + " |"]
    lines += ["|" + "---|" * len(found["header"])]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in found["rows"]]
    lines += ["", *(f"- {note}" for note in found["notes"])]
    where = ", ".join(f"{key} {value}" for key, value in found["environment"].items())
    return "\n".join([*lines, "", f"`{found['command']}` — {where}", ""])


def _cell(cell: Any) -> str:
    return f"{cell:.3g}" if isinstance(cell, float) else str(cell)


def spread(values: list[float]) -> str:
    """Median with the extremes."""
    return f"{median(values):.3g} ({min(values):.3g}–{max(values):.3g})"
