"""The application: its routes, and what it answers when something goes wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ...errors import AssayError
from ..guard import App, Guard, Receive, Refusal, Scope, Send
from . import deciding, exploring, pages, reading
from .site import Site, refused, told

READING: dict[str, Callable[[Request], Response]] = {
    "/api/session": reading.session,
    "/api/queue": reading.queue,
    "/api/confusion": reading.matrix,
    "/api/sample/{row}": reading.sample,
    "/api/why/{row}": reading.why,
    "/api/pictures": reading.pictures,
    "/api/recent": reading.recent,
    "/api/progress": exploring.progress,
    "/api/map": exploring.chart,
    "/api/map.png": exploring.raster,
    "/api/map/at": exploring.chart_at,
    "/api/regions": exploring.regions,
    "/api/cut": exploring.sliders,
    "/api/cut.svg": exploring.cut,
    "/media/{row}": reading.media,
    "/static/{name}": pages.static,
    **{path: pages.page for path in pages.PAGES},
}
DECIDING: dict[str, Callable[[Request], Awaitable[Response]]] = {
    "/api/user": deciding.user,
    "/api/decide": deciding.decide,
    "/api/undo": deciding.undo,
    "/api/keys": deciding.keys,
    "/api/decide-region": deciding.decide_region,
    "/api/export": deciding.export,
}


def application(site: Site, hosts: Iterable[str]) -> App:
    """The site behind its guard; `hosts` are the values of the Host header that are its own."""
    routes = [Route(path, answer, methods=["GET"]) for path, answer in READING.items()]
    routes += [Route(path, answer, methods=["POST"]) for path, answer in DECIDING.items()]

    async def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, AssayError)
        return refused(site, error, request.url.path)

    async def none_such(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        words = {404: "there is nothing at this address", 405: "this address is not asked that way"}
        return told(site.pages, Refusal(status, words.get(status, "the request failed")), request.url.path)

    async def unforeseen(request: Request, error: Exception) -> Response:
        return told(site.pages, Refusal(500, "something went wrong; the terminal says what"), request.url.path)

    handlers: Any = {AssayError: ours, HTTPException: none_such, Exception: unforeseen}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    app.state.site = site

    async def refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
        await told(site.pages, refusal, scope["path"])(scope, receive, send)

    return Guard(app, refuse, frozenset(hosts), site.port, site.secrets)
