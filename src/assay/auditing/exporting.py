"""An export by its format: the decisions applied, the data checked first, the originals left as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from ..decisions.store import Decisions
from ..errors import OutputError, ShapeError
from ..sources.source import Source
from .decided import Decided
from .export import export
from .export_folders import export_images, export_subset
from .export_lists import export_log, export_needs
from .folder import Folder
from .target import check_folder, check_target

FORMATS = {
    "parquet": ".parquet", "csv": ".csv", "jsonl": ".jsonl", "needs": ".csv", "images": "", "subset": "",
}  # fmt: skip
"""Each format and how its file ends; those without an ending are folders."""


def export_as(
    source: Source,
    folder: Folder,
    info: dict[str, Any],
    to: str | Path,
    format: str | None,
    *,
    overwrite: bool,
    check: Callable[[], None],
) -> Path:
    """Writes the audit in `folder` to `to`; `check` is called before anything is written, to refuse changed data.

    Raises `OutputError`, `ShapeError`, `SourceError`.
    """
    format = format_of(to, format)
    suffix = FORMATS[format]
    if suffix:
        target = check_target(to, source, suffixes=(suffix,), overwrite=overwrite)
    else:
        target = check_folder(to, source, overwrite=overwrite, ours=_OURS[format])
    check()
    decisions = Decisions.existing(folder.path, fingerprint=info["fingerprint"])
    if decisions is None:
        return _written(source, folder, info["classes"], target, format, None)
    with closing(decisions):
        return _written(source, folder, info["classes"], target, format, Decided(decisions, info["classes"]))


_OURS = {"images": "labels.csv", "subset": "keep_idx.npy"}


def format_of(to: str | Path, format: str | None) -> str:
    """The format that is asked for, or that the name's ending says; raises `ShapeError`, `OutputError`."""
    if format is not None:
        if format not in FORMATS:
            raise ShapeError(f"format={format!r} is not one of {', '.join(FORMATS)}")
        return format
    suffix = Path(to).suffix
    found = next((name for name, ending in FORMATS.items() if ending == suffix and ending), None)
    if found is None:
        raise OutputError(
            f"{to} ends in {suffix or 'nothing'}; name a file that ends in .parquet or .csv (or .jsonl, the log of "
            "decisions), or name a folder and say its format: images, subset"
        )
    return found


def _written(
    source: Source,
    folder: Folder,
    classes: Sequence[Any] | None,
    target: Path,
    format: str,
    decided: Decided | None,
) -> Path:
    shards = folder.shards()
    if format == "jsonl":
        return export_log(None if decided is None else decided.decisions, target)
    if format == "needs":
        return export_needs(source, folder, decided, target)
    if format == "subset":
        return export_subset(source, shards, target, decided, classes)
    if format == "images":
        return export_images(source, shards, target, decided, classes)
    return export(source, shards, target, decided)
