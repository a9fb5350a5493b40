"""POST: what the expert does. Each answers when it is on disk."""

from __future__ import annotations

import json
import re
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ...decisions.store import Subject
from ...errors import OutputError, ShapeError
from ..view import View, state, told
from .asked import body, flag, rows, text
from .reading import finite, site_of
from .site import ACTIONS, KEYS, Site

MOST = 10_000  # samples decided on in one act
FORMATS = {"parquet": ".parquet", "csv": ".csv", "jsonl": ".jsonl", "needs": ".csv", "images": "", "subset": ""}


async def user(request: Request) -> Response:
    """Who decides from here on in this browser."""
    name = text(await body(request), "name", most=60, needed=True) or ""
    if not name.isprintable():
        raise ShapeError("name is to be of printable characters")
    return site_of(request).name_cookie(JSONResponse({"user": name}), name)


async def decide(request: Request) -> Response:
    """One act on one or many samples."""
    return JSONResponse(finite(await run_in_threadpool(_decide, site_of(request), _who(request), await body(request))))


def _decide(site: Site, who: str, asked: dict[str, Any]) -> dict[str, Any]:
    view = site.view
    chosen = rows(asked, most=MOST, below=len(view.shards))
    action = text(asked, "action", most=20, needed=True) or ""
    if action not in ACTIONS:
        raise ShapeError(f"action={action!r} is not one of {', '.join(ACTIONS)}")
    note = text(asked, "note", most=2_000)
    resolves = flag(asked, "resolves")
    seen = asked.get("seen")
    overtaken = _overtaken(view, chosen, seen if isinstance(seen, dict) else {})
    subjects = [Subject(row, str(id)) for row, id in zip(chosen, view.columns.ids(chosen), strict=True)]
    made = view.decisions.decide(
        who, subjects, action, _labels(view, chosen, action, asked.get("label")), note=note, resolves=resolves,
        key=text(asked, "key", most=64),
    )  # fmt: skip
    return {
        "seq": made[-1].seq, "group": made[0].batch, "count": len(made),
        "items": [{**item, "overtaken": item["row"] in overtaken} for item in _states(view, chosen)],
    }  # fmt: skip


async def undo(request: Request) -> Response:
    """Takes back this user's latest act."""
    site, who = site_of(request), _who(request)
    key = text(await body(request), "key", most=64)
    undone = await run_in_threadpool(site.view.decisions.undo, who, key=key)
    found = [one.row for one in undone if one.row is not None]
    last = told(undone[-1]) if undone else None
    return JSONResponse(finite({"undone": last, "rows": found, "items": _states(site.view, found)}))


async def decide_region(request: Request) -> Response:
    """Important (collect), not (filter), or as it is (keep); undone like any act."""
    return JSONResponse(finite(await run_in_threadpool(_region, site_of(request), _who(request), await body(request))))


def _region(site: Site, who: str, asked: dict[str, Any]) -> dict[str, Any]:
    action, key = text(asked, "action", most=20, needed=True), text(asked, "region", most=64, needed=True) or ""
    if action not in ("collect", "filter", "keep", "requeue"):
        raise ShapeError(f"action={action!r} is not one of collect, filter, keep, requeue")
    box = next((one["box"] for one in site.regions()["regions"] if one["region"] == key), None)
    if box is None:
        raise ShapeError("there is no such region; reload the page")
    decisions = site.view.decisions
    decisions.decide(
        who, [Subject(region=key, box=box)], action, [None], note=text(asked, "note", most=2_000),
        resolves=flag(asked, "resolves"), key=text(asked, "key", most=64),
    )  # fmt: skip
    return {"region": key, **state(decisions.regions().get(key))}


async def export(request: Request) -> Response:
    """Writes an export into the folder of exports; never elsewhere."""
    return JSONResponse(finite(await run_in_threadpool(_export, site_of(request), await body(request))))


def _export(site: Site, asked: dict[str, Any]) -> dict[str, Any]:
    format = text(asked, "format", most=20, needed=True)
    name = text(asked, "to", most=100, needed=True) or ""
    if format not in FORMATS:
        raise ShapeError(f"format={format!r} is not one of {', '.join(FORMATS)}")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]*", name) or ".." in name:
        raise ShapeError("to is to be a plain name: letters, digits, blanks, dots, dashes")
    target = name if name.endswith(FORMATS[format]) else name + FORMATS[format]
    try:
        site.exports.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise OutputError(f"{site.exports} cannot be made ({cause}); name another folder with --exports") from cause
    found = site.worker.call("export", str(site.exports / target), format, flag(asked, "force"))
    return {**found, "path": f"{site.exports.name}/{target}"}


async def keys(request: Request) -> Response:
    """This user's own keys, by action; one that is left out is the usual one."""
    asked = (await body(request)).get("keys")
    if not isinstance(asked, dict) or not set(asked) <= set(KEYS):
        raise ShapeError(f"keys is to be an object of {', '.join(KEYS)}")
    if not all(isinstance(key, str) and 1 <= len(key) <= 20 and key.isprintable() for key in asked.values()):
        raise ShapeError("a key is to be the name of one")
    both = {**KEYS, **asked}
    if len(set(both.values())) < len(both):
        raise ShapeError("two actions have one key; give each its own")
    site, who = site_of(request), _who(request)
    await run_in_threadpool(site.view.decisions.set_keys, who, asked)
    return JSONResponse({"keys": both})


def _who(request: Request) -> str:
    who = site_of(request).who(request)
    if who is None:
        raise ShapeError("say who you are first")
    return who


def _labels(view: View, chosen: list[int], action: str, label: Any) -> list[str | None]:
    """The new label of each, as JSON; the suggested one where none is given."""
    if action != "relabel":
        return [None] * len(chosen)
    if label is None:
        return [json.dumps(one) for one in view.columns.labels("suggested_label", chosen)]
    if view.columns.classes is not None:
        view.code("label", label if isinstance(label, str) else json.dumps(label))
        return [json.dumps(str(label))] * len(chosen)
    return [json.dumps(_target(label, view.columns.types["given_label"][1]))] * len(chosen)


def _target(label: Any, width: int) -> Any:
    """A number, or as many as the regression has targets."""
    try:
        parts = label if isinstance(label, list) else [label]
        values = [float(part) for part in parts]
    except (TypeError, ValueError):
        values = []
    if len(values) != width or not all(abs(value) < float("inf") for value in values):
        raise ShapeError(f"label is to be {'a number' if width == 1 else f'a list of {width} numbers'}")
    return values[0] if width == 1 else values


def _overtaken(view: View, chosen: list[int], seen: dict[str, Any]) -> set[int]:
    """The samples on which somebody decided since the page looked."""
    asked = [row for row in chosen if str(row) in seen]
    stood = view.decisions.standing_of(asked)
    return {row for row in asked if state(stood.get(row))["seq"] != seen[str(row)]}


def _states(view: View, chosen: list[int]) -> list[dict[str, Any]]:
    """What stands now for these samples."""
    stood = view.decisions.standing_of(chosen)
    return [{"row": row, **state(stood.get(row))} for row in chosen]
