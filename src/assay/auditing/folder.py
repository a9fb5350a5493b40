"""The folder of an audit: what lies where, and whether a run may begin, go on or must be refused."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
import weakref
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..engine import atomic, write_json
from ..errors import AssayError, OutputError

if TYPE_CHECKING:
    import pyarrow.dataset as ds

OURS = (
    "scores", "work", "source", "head.safetensors", "curvature.safetensors", "trimmed_head.safetensors",
    "trimmed_curvature.safetensors", "report.html", "decisions.sqlite",
    "queue", "audit.json",
)  # fmt: skip
HERE = "{audit}"  # stands for the folder where `audit.json` names files in it


@dataclass(frozen=True)
class Folder:
    """`audit.json` is written last: the audit is finished. `work/` holds what resuming needs and goes at the end."""

    path: Path

    @property
    def info(self) -> Path:
        return self.path / "audit.json"

    @property
    def work(self) -> Path:
        return self.path / "work"

    @property
    def mistaken(self) -> Path:
        """Which classes are mistaken for which, until the scores are there."""
        return self.work / "mistaken.safetensors"

    @property
    def run(self) -> Path:
        return self.work / "run.json"

    @property
    def previous(self) -> Path:
        """A finished audit that is being overwritten, until the new one is finished too."""
        return self.path / "previous"

    @property
    def scores(self) -> Path:
        return self.path / "scores"

    @property
    def source(self) -> Path:
        """Where samples that were not Parquet files are kept, so that a loaded audit can show them."""
        return self.path / "source"

    @property
    def head(self) -> Path:
        return self.path / "head.safetensors"

    @property
    def curvature(self) -> Path:
        return self.path / "curvature.safetensors"

    @property
    def trimmed_head(self) -> Path:
        """The head that judges labels, where it is not the audited one; its curvature lies beside."""
        return self.path / "trimmed_head.safetensors"

    @property
    def trimmed_curvature(self) -> Path:
        return self.path / "trimmed_curvature.safetensors"

    @classmethod
    def claim(cls, path: str | Path, *, overwrite: bool = False) -> Folder:
        """The folder for a new or an interrupted audit, made if need be.

        Raises `OutputError` where it cannot be written, holds a finished audit (unless `overwrite`) or other files.
        """
        folder = cls(Path(path))
        if folder.path.exists() and not folder.path.is_dir():
            raise OutputError(f"{path} is a file; name a folder for the audit")
        folder._refuse_foreign()
        if folder.info.exists() and not folder.run.exists() and not overwrite:
            raise OutputError(
                f"{path} holds a finished audit; name another folder, or pass overwrite=True (--overwrite)"
            )
        if (folder.path / "decisions.sqlite").exists():
            raise OutputError(f"{path} holds decisions of an expert, which are not overwritten; name another folder")
        if folder.info.exists() and overwrite:
            folder._set_aside()
        folder._check_writable()
        return folder

    def _refuse_foreign(self) -> None:
        """What a killed run left half written (`.head.123.tmp.safetensors`) is ours, and goes."""
        names = sorted(p.name for p in self.path.iterdir()) if self.path.exists() else []
        torn = [name for name in names if name[0] == "." and ".tmp" in name and _named(name) in OURS]
        foreign = [name for name in names if name not in (*OURS, "previous", *torn)]
        if foreign:
            raise OutputError(
                f"{self.path} holds files that are not an audit's ({', '.join(foreign[:3])}"
                f"{', …' * (len(foreign) > 3)}); name a new or empty folder"
            )
        for name in torn:
            (self.path / name).unlink(missing_ok=True)

    def _set_aside(self) -> None:
        if self.run.exists():  # finished but for tidying up: what it had overwritten is not needed any more
            _remove(self.previous)
        self._move(self.path, self.previous)

    def _move(self, start: Path, end: Path) -> None:
        """`audit.json` goes last: as long as it stands, the audit is where it was."""
        end.mkdir(exist_ok=True)
        for name in OURS:
            if (start / name).exists():
                _remove(end / name)
                (start / name).rename(end / name)

    def _check_writable(self) -> None:
        try:
            self.work.mkdir(parents=True, exist_ok=True)
            with atomic(self.work / "writable") as temporary:
                temporary.write_bytes(b"")
            (self.work / "writable").unlink()
        except OSError as cause:
            raise OutputError(f"{self.path} cannot be written ({cause}); name another folder") from cause

    def begin(self, identity: dict[str, Any], *, overwrite: bool = False) -> None:
        """Notes what is run, or checks that what was interrupted here was the same."""
        identity = json.loads(json.dumps(identity))
        before = json.loads(self.run.read_text(encoding="utf-8")) if self.run.exists() else {}
        differs = sorted(name for name in identity | before if identity.get(name) != before.get(name))
        if before and differs and not overwrite:
            state = "a finished" if self.info.exists() else "an unfinished"
            raise OutputError(
                f"{self.path} holds {state} audit of something else ({', '.join(differs)} differ); run the same call "
                "to finish it, name another folder, or pass overwrite=True (--overwrite)"
            )
        if differs:
            for name in OURS:
                if name != "source":
                    _remove(self.path / name)
            _remove(self.source / "source.parquet")
            self._check_writable()
            write_json(self.run, identity)

    @contextmanager
    def cleared_by(self, *refusals: type[AssayError], keep: bool = False) -> Generator[None]:
        """After one of these errors nothing of the run is left (unless `keep`), so that a mended one can begin here.

        A finished audit that was to be overwritten is put back.
        """
        try:
            yield
        except refusals:
            if not keep:
                self._clear()
            raise

    def _clear(self) -> None:
        for name in OURS:
            _remove(self.path / name)
        if self.previous.exists():
            self._move(self.previous, self.path)
            _remove(self.previous)
        elif not any(self.path.iterdir()):
            self.path.rmdir()

    def finish(self, info: dict[str, Any]) -> None:
        """Writes `audit.json`; then the audit is finished and what was only needed on the way goes."""
        write_json(self.info, _finite(info))
        self.tidy(info["source"])

    def tidy(self, spec: dict[str, Any]) -> None:
        """Removes all but the audit; `spec` tells which files of `source/` belong to it."""
        used = {Path(file).name for file in spec["store"].get("files", []) if str(file).startswith(HERE)}
        for path in self.source.iterdir() if self.source.exists() else ():
            if path.name not in used:
                _remove(path)
        if not used:
            _remove(self.source)
        _remove(self.previous)
        shutil.rmtree(self.work)

    def packed(self, spec: dict[str, Any]) -> dict[str, Any]:
        """A source's spec with the files that lie in this folder named from here, so that the folder can move."""
        return _with_files(spec, os.path.abspath(self.path) + os.sep, HERE + "/")

    def unpacked(self, spec: dict[str, Any]) -> dict[str, Any]:
        """The reverse of `packed`, wherever the folder lies now."""
        return _with_files(spec, HERE + "/", os.path.abspath(self.path) + os.sep)

    def shard(self, k: int) -> Path:
        return self.scores / f"part-{k:05d}.parquet"

    def shards(self) -> list[Path]:
        return sorted(self.scores.glob("part-*.parquet"))

    def dataset(self) -> ds.Dataset:
        """All score rows, lazily."""
        import pyarrow.dataset as ds  # half a second where pandas is installed, which it brings

        return ds.dataset([str(path) for path in self.shards()], format="parquet")


class Temporary:
    """A folder that goes when this object does, without a word."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="assay-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def _finite(value: Any) -> Any:
    """JSON has neither NaN nor infinity: null stands for them."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _with_files(spec: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    store = spec["store"]
    if not isinstance(store.get("files"), list):
        return spec
    files = [new + file.removeprefix(old) if file.startswith(old) else file for file in store["files"]]
    return {**spec, "store": {**store, "files": files}}


def _named(torn: str) -> str:
    """The file that `atomic` would have made of a temporary one."""
    stem, _, suffix = torn[1:].rpartition(".tmp")
    return stem.rpartition(".")[0] + suffix


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as cause:
        raise OutputError(f"{path} cannot be removed ({cause}); remove it, or name another folder") from cause
