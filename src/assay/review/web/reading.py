"""GET: what the page is told. Nothing is changed here."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ...errors import ShapeError, UnknownIdError
from ..queue import QUEUES, confusion
from ..view import LIMIT, place_of, queue_of, told
from ..words import words_of
from .asked import real, whole, wholes, word
from .site import Site

SHOWN = (
    "mislabeled_score", "under_represented_score", "boundary_score", "cooks_distance", "leverage", "loss", "loo_loss",
    "label_score", "logit_variance",
)  # fmt: skip
SIDES = (96, 384)  # pixels of a thumbnail and of a picture, at most
THUMBNAILS = 64  # of an answer, at most


def site_of(request: Request) -> Site:
    """What is served; raises `OutputError` where another audit took its place."""
    site: Site = request.app.state.site
    site.view.shards.check()
    return site


def session(request: Request) -> Response:
    return JSONResponse(site_of(request).session(request))


def queue(request: Request) -> Response:
    """A page of the queue, as filtered, from a cursor or a rank on."""
    view, query = site_of(request).view, request.query_params
    chosen, given = queue_of(word(query.get("queue"))), query.get
    where: dict[str, Any] = {"limit": whole(given("limit"), "limit", least=1, most=LIMIT) or 60}
    for side in ("after", "before"):
        if text := given(side):
            where[side] = place_of(text)
    where["rank"] = whole(given("rank"), "rank", least=1, most=2**53)
    where["row"] = whole(given("row"), "row", least=0, most=2**62)
    if sum(where.get(name) is not None for name in ("after", "before", "rank", "row")) > 1:
        raise ShapeError("after, before, rank and row each say where to begin; give one")
    return JSONResponse(view.page(chosen, _filter(request), **where))


def matrix(request: Request) -> Response:
    """Pairs of given and suggested class among the samples of the queue."""
    view = site_of(request).view
    classes = view.columns.classes
    if classes is None:
        return JSONResponse({"classes": None, "counts": []})
    found = confusion(view.columns, queue_of(word(request.query_params.get("queue"))), _filter(request))
    counts = [{"given": classes[a], "suggested": classes[b], "count": count} for (a, b), count in found.most_common()]
    return JSONResponse({"classes": classes, "counts": counts})


def sample(request: Request) -> Response:
    """All there is to know of a sample, but why."""
    site, row = site_of(request), _row(request)
    view = site.view
    scores = view.shards.row(row)
    chosen = queue_of(word(request.query_params.get("queue")))
    item = view.items(chosen, [row], view.ranks(chosen, [row]))[0]
    shown = {name: scores[name] for name in SHOWN}
    shown["cooks_rank"] = view.ranks(QUEUES["all"], [row])[0]
    found = site.worker.call("sample", row, scores["label_score"])
    found["missing"] = None if found["missing"] is None else site.unplaced(found["missing"])
    more = {"scores": shown, "words": words_of(shown, view.shards.info), **found}
    history = [told(one) for one in view.decisions.history(row)]
    return JSONResponse(finite({**item, **more, "history": history}))


def why(request: Request) -> Response:
    """Supporters, opponents and neighbours, each as the list shows it."""
    site, row = site_of(request), _row(request)
    found = site.worker.call("why", row)
    sides = ("supporters", "opponents", "neighbours")
    rows = sorted({one["row"] for side in sides for one in found[side]})
    items = {item["row"]: item for item in site.view.items(queue_of("all"), rows)}
    shown = ("row", "id", "given", "suggested", "decision", "held_out")
    for side in sides:
        found[side] = [{**one, **{name: items[one["row"]][name] for name in shown}} for one in found[side]]
    return JSONResponse(finite(found))


def media(request: Request) -> Response:
    """The sample's picture, written anew. A browser may keep it, but asks each time whether it is of this run: at the
    same address may have been another audit's."""
    site, row = site_of(request), _row(request)
    side = whole(request.query_params.get("size"), "size", least=16, most=SIDES[1]) or SIDES[0]
    headers = {"cache-control": "private, no-cache", "etag": f'"{site.run}-{row}-{side}"'}
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    png = site.worker.call("picture", row, side)
    if png is None:
        raise UnknownIdError("the sample has no picture")
    return Response(png, media_type="image/png", headers=headers)


def pictures(request: Request) -> Response:
    """Thumbnails of several samples as `data:` addresses, by row; null where there is none that can be read. The last
    are left out where they take long: the page asks again."""
    site = site_of(request)
    given, last = request.query_params.get("rows"), len(site.view.shards) - 1
    rows = wholes(given, "rows", least=0, most=last, count=THUMBNAILS)
    found = site.worker.call("pictures", rows, SIDES[0])
    addresses = {row: png and f"data:image/png;base64,{b64encode(png).decode()}" for row, png in found.items()}
    return JSONResponse({"pictures": addresses})


def recent(request: Request) -> Response:
    """The user's last ten decisions."""
    site = site_of(request)
    who = site.who(request)
    return JSONResponse([] if who is None else [told(one) for one in site.view.decisions.recent(who)])


def finite(value: Any) -> Any:
    """JSON has neither NaN nor infinity: null stands for them."""
    if isinstance(value, dict):
        return {name: finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not abs(value) < float("inf") else value


def _row(request: Request) -> int:
    row = whole(request.path_params["row"], "row", least=0, most=2**62)
    if row is None or row >= len(site_of(request).view.shards):
        raise UnknownIdError("there is no such row")
    return row


def _filter(request: Request) -> Any:
    query = request.query_params
    return site_of(request).view.filter(
        queue_of(word(query.get("queue"))), given=word(query.get("given")), suggested=word(query.get("suggested")),
        status=word(query.get("status")), low=real(query.get("low"), "low"), high=real(query.get("high"), "high"),
    )  # fmt: skip
