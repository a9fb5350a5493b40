"""The folder of an audit: what lies where, and whether a run may begin, go on or must be refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..engine import atomic, write_json
from ..errors import OutputError

OURS = {
    "audit.json", "scores", "work", "source", "head.safetensors", "curvature.safetensors", "report.html",
    "decisions.sqlite",
}  # fmt: skip


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
    def run(self) -> Path:
        return self.work / "run.json"

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

    @classmethod
    def claim(cls, path: str | Path, *, overwrite: bool = False) -> Folder:
        """The folder for a new or an interrupted audit, made if need be.

        Raises `OutputError` where it cannot be written, holds a finished audit (unless `overwrite`) or other files.
        """
        folder = cls(Path(path))
        if folder.path.exists() and not folder.path.is_dir():
            raise OutputError(f"{path} is a file; name a folder for the audit")
        if folder.info.exists():
            folder._make_room(overwrite=overwrite)
        foreign = sorted(p.name for p in folder.path.iterdir() if p.name not in OURS) if folder.path.exists() else []
        if foreign:
            raise OutputError(
                f"{path} holds files that are not an audit's ({', '.join(foreign[:3])}{', …' * (len(foreign) > 3)}); "
                "name a new or empty folder"
            )
        folder._check_writable()
        return folder

    def _make_room(self, *, overwrite: bool) -> None:
        if not overwrite:
            raise OutputError(
                f"{self.path} holds a finished audit; name another folder, or pass overwrite=True (--overwrite)"
            )
        if (self.path / "decisions.sqlite").exists():
            raise OutputError(
                f"{self.path} holds decisions of an expert, which are not overwritten; name another folder"
            )
        for name in OURS:
            target = self.path / name
            if target.is_dir():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)

    def _check_writable(self) -> None:
        try:
            self.work.mkdir(parents=True, exist_ok=True)
            with atomic(self.work / "writable") as temporary:
                temporary.write_bytes(b"")
            (self.work / "writable").unlink()
        except OSError as cause:
            raise OutputError(f"{self.path} cannot be written ({cause}); name another folder") from cause

    def begin(self, identity: dict[str, Any]) -> None:
        """Notes what is run, or checks that what was interrupted here was the same."""
        identity = json.loads(json.dumps(identity))
        if not self.run.exists():
            write_json(self.run, identity)
            return
        before = json.loads(self.run.read_text(encoding="utf-8"))
        differs = sorted(name for name in identity | before if identity.get(name) != before.get(name))
        if differs:
            raise OutputError(
                f"{self.path} holds an unfinished audit of something else ({', '.join(differs)} differ); run the same "
                "call to finish it, or delete the folder"
            )

    def abandon(self) -> None:
        """Removes what a run that found unusable data left, so that the mended data can be audited here."""
        for name in ("work", "source", "scores"):
            shutil.rmtree(self.path / name, ignore_errors=True)
        if not any(self.path.iterdir()):
            self.path.rmdir()

    def finish(self, info: dict[str, Any]) -> None:
        """Writes `audit.json`; then the audit is finished and `work/` is not needed any more."""
        write_json(self.info, info)
        shutil.rmtree(self.work)

    def shard(self, k: int) -> Path:
        return self.scores / f"part-{k:05d}.parquet"

    def shards(self) -> list[Path]:
        return sorted(self.scores.glob("part-*.parquet"))
