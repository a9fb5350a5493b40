"""What the routes share: the audit's view, the worker, who the user is, and how errors are told."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import quote, unquote

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from ...errors import AssayError, OutputError, ShapeError, UnknownIdError
from ..guard import HEADER, Refusal, Secrets
from ..progress import Progress
from ..queue import QUEUES
from ..shards import Shards
from ..view import View
from ..worker import Worker

KEYS = {
    "keep": "k", "relabel": "r", "find": "/", "drop": "d", "collect": "m", "unsure": "u", "skip": "s", "undo": "z",
    "requeue": "q", "note": "n", "rank": "g", "zoom": "e", "help": "?",
}  # fmt: skip
ACTIONS = ("keep", "relabel", "drop", "collect", "unsure", "requeue")


@dataclass(frozen=True)
class Site:
    """One audit under review at one port."""

    view: View
    worker: Worker
    port: int
    exports: Path
    user: str | None = None
    secrets: Secrets = field(default_factory=Secrets)
    run: str = field(default_factory=lambda: token_hex(8))
    _regions: dict[str, Any] = field(default_factory=dict[str, Any], repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def user_cookie(self) -> str:
        return f"assay_user_{self.port}"

    def who(self, request: Request) -> str | None:
        """The user's name; that of the command line where the browser has none yet."""
        given = unquote(request.cookies.get(self.user_cookie, ""))
        return given if 1 <= len(given) <= 60 else self.user

    def name_cookie(self, response: Response, name: str) -> Response:
        response.set_cookie(self.user_cookie, quote(name), httponly=True, samesite="strict", path="/")
        return response

    def unplaced(self, message: str) -> str:
        """What the page may be told of an error."""
        return unplaced(message, self._folders)

    @cached_property
    def _folders(self) -> tuple[str, ...]:
        return folders_of(self.view.shards, self.exports.absolute())

    @cached_property
    def progress(self) -> Progress:
        return Progress(self.view)

    @cached_property
    def is_table(self) -> bool:
        """Whether the samples are rows of named, numeric columns, which have regions and cuts."""
        return self.view.shards.is_table

    def regions(self) -> dict[str, Any]:
        """The regions of the table, found once; raises `UnknownIdError` where there are none to be found."""
        if not self.is_table:
            raise UnknownIdError("regions are of tables, and these samples are none")
        with self._lock:
            if not self._regions:
                self._regions.update(self.worker.call("regions"))
        return self._regions

    @cached_property
    def pages(self) -> jinja2.Environment:
        loader = jinja2.PackageLoader("assay.review", "templates")
        return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)

    def session(self, request: Request) -> dict[str, Any]:
        """What every page knows from the beginning."""
        view, who = self.view, self.who(request)
        info = view.shards.info
        schema = view.shards.schema
        choice = info["source"].get("choice") or {}
        queues = [
            {"name": queue.name, "title": queue.title, "score": queue.score,
             "total": info["rows"] if queue.kind is None and not queue.listed else info["kinds"].get(queue.name, 0)}
            for queue in QUEUES.values()
        ]  # fmt: skip
        return {
            "name": view.shards.path.resolve().name, "audit": sha256(info["fingerprint"].encode()).hexdigest()[:16],
            "rows": len(view.shards), "family": info["family"],
            "classes": view.columns.classes, "targets": info["targets"], "kinds": info["kinds"],
            "label_issues": info["label_issues"], "held_out": info["held_out"],
            "trust": {name: info["trust"][name] for name in ("verdict", "reason")},
            "user": who, "users": view.decisions.users(), "media": "image" if view.shards.pictures else "fields",
            "columns": list(choice.get("features") or ()), "table": self.is_table,
            "keys": {**KEYS, **(view.decisions.keys(who) if who else {})}, "default_keys": KEYS, "queues": queues,
            "reviewed": len(view.stood().having("done")), "header": HEADER, "csrf": self.secrets.csrf,
            "scores": [name for name in schema.names if name.endswith("_score")],
        }  # fmt: skip


def status_of(error: Exception) -> int:
    """The status of a refusal."""
    if isinstance(error, UnknownIdError):
        return 404
    if isinstance(error, ShapeError):
        return 400
    return 409 if isinstance(error, OutputError) else 422


def folders_of(shards: Shards, *more: Path) -> tuple[str, ...]:
    """The folders that an error of this audit may name, the longest first."""
    store = shards.info["source"]["store"]
    files: Any = store.get("files") or [store.get("path") or "."]
    named = [Path(str(file)).parent for file in (files.values() if isinstance(files, dict) else files)]
    places = {*named, *more, shards.path.absolute(), shards.path.resolve(), Path.cwd(), Path.home()}
    texts = {str(folder) for place in places for folder in (place, *place.parents)} - {"/", "."}
    return tuple(sorted(texts, key=len, reverse=True))


def unplaced(message: str, folders: Sequence[str]) -> str:
    """A sentence without the folders of this machine: files keep their names alone."""
    for folder in folders:
        message = message.replace(f"{folder}/", "").replace(folder, Path(folder).name)
    return re.sub(r"(?:[A-Za-z]:)?(?:[\\/][^\s\\/:;,'\"()]+)+[\\/](?=[^\s\\/:;,'\"()])", "", message)


def refused(site: Site, error: AssayError, path: str) -> Response:
    """An error of ours; what it says in full goes to the terminal."""
    print(f"assay: {error}", file=sys.stderr)
    return told(site.pages, Refusal(status_of(error), site.unplaced(str(error))), path)


def told(pages: jinja2.Environment, refusal: Refusal, path: str, headers: Mapping[str, str] | None = None) -> Response:
    """A refusal as JSON for the page's own requests, as a page for people."""
    if path.startswith(("/api/", "/media/")):
        return JSONResponse({"error": refusal.message}, refusal.status, headers)
    page = pages.get_template("error.html.j2").render(status=refusal.status, message=refusal.message)
    return HTMLResponse(page, refusal.status, headers)
