"""Where a result may be written: never over the audited data, an audit, or what is no plain file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import OutputError
from ..sources.source import Source


def check_target(
    to: str | Path, source: Source, *, suffixes: Sequence[str], overwrite: bool, own: Path | None = None
) -> Path:
    """`to` as a path that may be written; `own` is the one file in an audit that may be replaced there.

    Raises `OutputError` where its suffix is another, its folder is missing, it is the audited data, lies in an audit,
    is no plain file, or exists already (unless `overwrite`).
    """
    target = Path(to)
    if target.suffix not in suffixes:
        found = target.suffix or "nothing"
        raise OutputError(f"{to} ends in {found}; name a file that ends in {' or '.join(suffixes)}")
    if not target.parent.is_dir():
        raise OutputError(f"{to} cannot be written: there is no folder {target.parent}; make it, or name another")
    if own is not None and target.absolute() == own.absolute():
        return target
    if inside := next((folder for folder in target.resolve().parents if _is_audit(folder)), None):
        raise OutputError(f"{to} lies in the audit {inside}, which keeps only its own files; name a place outside it")
    if target.exists() and not target.is_file():
        raise OutputError(f"{to} is no plain file; name a new file")
    if target.exists() and any(target.samefile(file) for file in _files(source) if file.exists()):
        raise OutputError(f"{to} holds the audited data, which are never changed; name another file")
    if target.exists() and not overwrite:
        raise OutputError(f"{to} exists already; name another file, or pass overwrite=True (--overwrite)")
    return target


def check_folder(to: str | Path, source: Source, *, overwrite: bool, ours: str) -> Path:
    """`to` as a folder that may be written anew: not there, empty, or (`overwrite`) one that holds the file `ours`.

    Raises `OutputError`, also where it holds the audited data or lies in an audit.
    """
    target = Path(to).absolute()
    if not target.parent.is_dir():
        raise OutputError(f"{to} cannot be written: there is no folder {target.parent}; make it, or name another")
    if inside := next((folder for folder in (target.resolve(), *target.resolve().parents) if _is_audit(folder)), None):
        raise OutputError(f"{to} lies in the audit {inside}, which keeps only its own files; name a place outside it")
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise OutputError(f"{to} is no plain folder; name a new folder")
    if any(file.resolve().is_relative_to(target.resolve()) for file in _files(source) if str(file) != "."):
        raise OutputError(f"{to} holds the audited data, which are never changed; name another folder")
    if target.exists() and any(target.iterdir()) and not (overwrite and (target / ours).is_file()):
        raise OutputError(
            f"{to} is not empty; name a new folder" + ("" if overwrite else ", or pass overwrite=True (--overwrite)")
        )
    return target


def _is_audit(folder: Path) -> bool:
    return (folder / "audit.json").exists() or (folder / "work" / "run.json").exists()


def _files(source: Source) -> list[Path]:
    """The files that the samples are read from, and those that they were made from."""
    store = (source.spec() or {"store": {}})["store"]
    files = store.get("files", [store.get("path", "")])
    origin = source.where(0).rpartition(", row ")[0].partition(" and ")[0]
    return [Path(file) for file in (*(files.values() if isinstance(files, dict) else files), origin)]
