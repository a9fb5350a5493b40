"""GET: progress, the map, regions and cuts."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ...errors import ShapeError, UnknownIdError
from ..queue import Filter, Place, page
from ..view import queue_of, state
from .asked import real, whole, word
from .reading import finite, site_of
from .site import Site

FLAGGED = 5_000  # points on top of a picture of density, at most
DRAWING = "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'"  # of matplotlib's own SVG


def progress(request: Request) -> Response:
    """How far the queue is reviewed, and what the next hundred may bring."""
    site = site_of(request)
    stood = site.view.stood()
    listed = {"conflicts": int(stood.conflicts.sum()), "unsure": int((stood.actions == "unsure").sum())}
    return JSONResponse(
        finite(site.progress.of(queue_of(word(request.query_params.get("queue")))) | {"queues": listed})
    )


def chart(request: Request) -> Response:
    """All samples as points, or the flagged ones over a picture of all."""
    site = site_of(request)
    found = site.worker.call("plane")
    shares = {"explained": found["explained"], "classes": site.view.columns.classes}
    if found["png"] is None:
        rows = found["row"].tolist()
        points = _points(site, rows, found["x"], found["y"])
        return JSONResponse(finite({"kind": "points", **points, **shares}))
    rows = _flagged(site)
    places = np.array(site.worker.call("placed", rows)).reshape(-1, 2)
    points = _points(site, rows, places[:, 0], places[:, 1])
    raster = {"kind": "raster", "png": "/api/map.png", "limits": found["limits"], "points": points}
    return JSONResponse(finite({**raster, **shares}))


def raster(request: Request) -> Response:
    """The picture of density."""
    png = site_of(request).worker.call("plane")["png"]
    if png is None:
        raise UnknownIdError("the map of so few samples is drawn as points")
    return Response(png, media_type="image/png")


def chart_at(request: Request) -> Response:
    """The sample nearest to a place on the map."""
    x, y = (real(request.query_params.get(name), name) for name in ("x", "y"))
    if x is None or y is None:
        raise ShapeError("x and y say where")
    return JSONResponse({"row": site_of(request).worker.call("at", x, y)})


def regions(request: Request) -> Response:
    """The regions of a table, with what was decided on them."""
    site = site_of(request)
    found = site.regions()
    stood = site.view.decisions.regions()
    listed = [{**one, "box": json.loads(one["box"]), **state(stood.get(one["region"]))} for one in found["regions"]]
    return JSONResponse(finite({**found, "regions": listed}))


def sliders(request: Request) -> Response:
    """The columns of a cut through a sample."""
    return JSONResponse(finite(_of_table(site_of(request), "sliders", _row(request))))


def cut(request: Request) -> Response:
    """The picture of a cut, by matplotlib."""
    query = request.query_params
    at: dict[str, float] = {}
    for name, value in query.multi_items():
        if name not in ("row", "x", "y", "dark") and (number := real(value, name[:40])) is not None:
            at[name.removeprefix("at.")] = number
    svg = _of_table(
        site_of(request),
        "cut_svg",
        _row(request),
        query.get("x") or "",
        query.get("y") or "",
        at,
        query.get("dark") == "1",
    )
    return Response(svg, media_type="image/svg+xml", headers={"content-security-policy": DRAWING})


def _of_table(site: Site, name: str, *arguments: Any) -> Any:
    if not site.is_table:
        raise UnknownIdError("only the samples of a table have cuts")
    return site.worker.call(name, *arguments)


def _row(request: Request) -> int:
    row = whole(request.query_params.get("row"), "row", least=0, most=2**62)
    if row is None or row >= len(site_of(request).view.shards):
        raise UnknownIdError("there is no such row")
    return row


def _flagged(site: Site) -> list[int]:
    """The rows of each kind that stand out, the strongest of its score first; as many of each."""
    rows: list[int] = []
    for name in ("mislabeled", "under-represented", "boundary"):
        places: list[Place] = page(site.view.columns, queue_of(name), Filter(), limit=FLAGGED // 3).places
        rows += [place.row for place in places]
    return sorted(rows)


def _points(site: Site, rows: list[int], x: Any, y: Any) -> dict[str, Any]:
    columns = site.view.columns
    kinds = columns.take("kind", rows)
    return {
        "x": np.round(x, 4).tolist(), "y": np.round(y, 4).tolist(), "row": rows,
        "given": columns.take("given_label", rows), "influence": columns.take("cooks_distance", rows), "kinds": kinds,
        "flagged": [kind > 0 for kind in kinds],
    }  # fmt: skip
