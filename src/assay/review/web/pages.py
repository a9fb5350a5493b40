"""The pages and their files."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from ...errors import UnknownIdError
from .reading import site_of

PAGES = {"/": "review", "/map": "map", "/regions": "regions", "/export": "export"}
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".png": "image/png"}


def page(request: Request) -> Response:
    """A page; all its state after this comes from the API."""
    site = site_of(request)
    name = PAGES[request.url.path]
    return HTMLResponse(site.pages.get_template(f"{name}.html.j2").render(session=site.session(request), page=name))


def static(request: Request) -> Response:
    """A script or a style sheet, of those that are there."""
    name = request.path_params["name"]
    found = known()
    if name not in found:
        raise UnknownIdError("there is no such file")
    kind = TYPES[name[name.rindex(".") :]]
    return Response(found[name], media_type=kind, headers={"cache-control": "no-cache"})


@cache
def known() -> dict[str, bytes]:
    """The files of `static/` by name, read once; there are no folders in it."""
    folder = files("assay.review") / "static"
    there = [file for file in (folder.iterdir() if folder.is_dir() else ()) if file.is_file()]
    return {file.name: file.read_bytes() for file in there if file.name[file.name.rfind(".") :] in TYPES}
