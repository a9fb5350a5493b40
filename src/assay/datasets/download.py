"""A file from a URL, whole or not at all: an interrupted download goes on where it stopped."""

from __future__ import annotations

import hashlib
import os
import shutil
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from ..engine import Progress, stage
from ..errors import OutputError, SourceError

CHUNK = 1 << 20


def check_room(folder: Path, needed: int) -> None:
    """Raises `OutputError` where the disk of the folder has fewer free bytes than are needed."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(f"{folder} needs {needed:,} bytes, but has {free:,} free; free some, or name another cache")


def download(url: str, folder: Path, *, progress: Progress | None = None) -> Path:
    """The file in `folder` that holds what the URL (http, https, file) gives; downloaded once.

    What has come so far is kept as `….part`, with the version the server gave it; the next call asks for the rest of
    that version, and starts again where there is none. Raises `SourceError` where the server cannot be reached or stops
    early, `OutputError` where the file cannot be written.
    """
    parts = urlsplit(url)
    name = Path(parts.path).name
    if parts.scheme not in ("http", "https", "file") or not name:
        raise SourceError(f"{url!r} is no address of a file; give one that begins with http://, https:// or file://")
    target = folder / f"{hashlib.blake2b(url.encode(), digest_size=4).hexdigest()}-{name}"
    if target.exists():
        return target
    part = _Part(target)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _fetch(url, part, progress)
        os.replace(part.path, target)
        part.version.unlink(missing_ok=True)
    except (OutputError, SourceError):
        raise
    except OSError as cause:
        raise OutputError(f"{target} cannot be written: {cause}; free some space, or name another cache") from cause
    return target


class _Part:
    """What has come of a file so far, and which version of it that is."""

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(target.name + ".part")
        self.version = target.with_name(target.name + ".version")

    def headers(self) -> dict[str, str]:
        """What asks for the rest, where there is a beginning whose version is known."""
        if not self.size or not self.version.exists():
            return {}
        return {"Range": f"bytes={self.size}-", "If-Range": self.version.read_text("latin-1")}

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def begin(self, headers: Any) -> None:
        """Empty again, of the version that these headers name."""
        self.path.write_bytes(b"")
        tag = headers.get("ETag") or ""
        version = tag if tag.startswith('"') else headers.get("Last-Modified")  # a weak tag is no promise of the bytes
        if version:
            self.version.write_text(version, "latin-1")
        else:
            self.version.unlink(missing_ok=True)


def _open(url: str, part: _Part) -> Any:
    """The answer, to a request for the rest if there is a beginning, and for the whole where that is refused."""
    for headers in (part.headers(), {}):
        try:
            return urlopen(Request(url, headers=headers), timeout=60)
        except HTTPError as cause:
            if cause.code == 416 and headers:  # the beginning is longer than the file: not of this version
                continue
            raise SourceError(f"{url} answers {cause.code} {cause.reason}; set another address") from cause
        except (OSError, HTTPException) as cause:
            raise SourceError(f"{url} cannot be reached: {cause}; try again, or set another address") from cause
    raise SourceError(f"{url} gives no range and no whole file; set another address")


def _fetch(url: str, part: _Part, progress: Progress | None) -> None:
    with _open(url, part) as answer:
        if answer.status != 206:
            part.begin(answer.headers)
        left = int(answer.headers.get("Content-Length") or 0)
        check_room(part.path.parent, left)
        whole = part.size + left
        with open(part.path, "ab") as file, stage(progress, "download", -(-left // CHUNK)) as advance:
            while chunk := _chunk(answer, url):
                file.write(chunk)
                advance()
    if left and part.size != whole:
        raise SourceError(f"{url} ended after {part.size:,} of {whole:,} bytes; the same call goes on from there")


def _chunk(answer: Any, url: str) -> bytes:
    try:
        return answer.read(CHUNK)
    except (OSError, HTTPException) as cause:
        raise SourceError(f"{url} was interrupted: {cause!r}; the same call goes on from there") from cause
