"""The cleaned data as a folder: pictures by class, or the arrays that a `Subset` of one's own data set takes."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import OutputError, ShapeError
from ..sources.picture import as_png
from ..sources.source import Source
from ..sources.table import TableSource
from .decided import Decided, stretches
from .export import defused

README = """keep, labels = np.load("{name}/keep_idx.npy"), np.load("{name}/labels.npy")
subset = torch.utils.data.Subset(train_set, keep)
cleaned = [(x, y) for (x, _), y in zip(subset, labels, strict=True)]
"""


def export_subset(
    source: Source, shards: Sequence[Path], to: Path, decided: Decided | None, classes: Sequence[Any] | None
) -> Path:
    """`keep_idx.npy`, the positions of the samples that stay; `labels.npy`, their labels, corrected; `README.txt`, the
    three lines that use them. Labels are whole numbers where the classes are, else codes into `classes.txt`; the
    targets of a regression are float64."""
    kept: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for first, table in _stretches(source, shards, decided):
        stays = table["kept"].to_numpy() if decided is not None else np.ones(len(table), bool)
        kept.append(first + np.flatnonzero(stays))
        labels.append(_numbers(table["corrected_label" if decided is not None else "given_label"], classes)[stays])
    with _folder(to) as staging:
        np.save(staging / "keep_idx.npy", np.concatenate(kept).astype(np.int64))
        np.save(staging / "labels.npy", np.concatenate(labels))
        if classes is not None and not _whole(classes):
            (staging / "classes.txt").write_text("".join(f"{name}\n" for name in map(_line, classes)), encoding="utf-8")
        (staging / "README.txt").write_text(README.format(name=to.name), encoding="utf-8")
    return to


def export_images(
    source: Source, shards: Sequence[Path], to: Path, decided: Decided | None, classes: Sequence[Any] | None
) -> Path:
    """A folder a class (by the corrected label) with the PNGs of the samples that stay, and `labels.csv`.

    Pictures are as the audit keeps them: those of an image table in full, those of a network's data set as thumbnails.
    Raises `ShapeError` where the samples have no pictures or no classes.
    """
    if classes is None:
        raise ShapeError(
            "a folder of images has a sub-folder a class, and this audit is a regression; export to .parquet"
        )
    if not isinstance(source, TableSource) or source.pictures_of([0])[0] is None:
        raise ShapeError("these samples have no pictures; export to .parquet or .csv")
    folders = folder_names(classes)
    name = "corrected_label" if decided is not None else "given_label"
    with _folder(to) as staging, open(staging / "labels.csv", "w", newline="", encoding="utf-8") as file:
        listed = csv.writer(file)
        listed.writerow(["file", "row", "id", "given_label", "label"])
        for folder in folders.values():
            (staging / folder).mkdir()
        for first, table in _stretches(source, shards, decided, "id"):
            pictures = source.pictures(first, first + len(table))
            for k, (row, png) in enumerate(zip(table.to_pylist(), pictures, strict=True)):
                if row.get("kept", True):
                    path = f"{folders[row[name]]}/{first + k:08d}.png"
                    (staging / path).write_bytes(as_png(png or b""))
                    cells = [path, first + k, row["id"], row["given_label"], row[name]]
                    listed.writerow([defused(cell) if isinstance(cell, str) else cell for cell in cells])
    return to


def folder_names(classes: Sequence[Any]) -> dict[Any, str]:
    """A folder's name for each class: letters, digits, blanks, dots and dashes alone, none twice, none hidden."""
    found: dict[Any, str] = {}
    for k, name in enumerate(classes):
        plain = re.sub(r"[^\w \-.]", "_", str(name)).strip(" .")[:80]
        taken = {other.lower() for other in found.values()}
        found[name] = plain if plain and plain.lower() not in {*taken, "labels.csv"} else f"{plain or 'class'}_{k}"
    return found


def _stretches(source: Source, shards: Sequence[Path], decided: Decided | None, *more: str) -> Any:
    return stretches(shards, ["given_label", *more], decided, source)


def _numbers(labels: Any, classes: Sequence[Any] | None) -> np.ndarray:
    if classes is None:
        rows = labels.to_pylist()
        return np.array(rows, np.float64)
    if _whole(classes):
        return labels.to_numpy().astype(np.int64)
    return pc.index_in(labels, pa.array(classes, labels.type)).to_numpy().astype(np.int64)


def _whole(classes: Sequence[Any]) -> bool:
    return all(isinstance(name, int) and not isinstance(name, bool) for name in classes)


def _line(name: Any) -> str:
    return " ".join(str(name).split())


@contextmanager
def _folder(to: Path) -> Generator[Path]:
    """A folder beside `to` that takes its place when it is whole; an older export there goes then."""
    staging = to.with_name(f".{to.name}.tmp")
    try:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        yield staging
        if to.exists():
            shutil.rmtree(to)
        staging.rename(to)
    except OSError as cause:
        raise OutputError(f"{to} cannot be written ({cause}); free some space, or name another folder") from cause
    finally:
        shutil.rmtree(staging, ignore_errors=True)
