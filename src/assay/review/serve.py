"""Starts the review page: `serve(audit)`."""

from __future__ import annotations

import socket
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from threading import Timer

from ..errors import OutputError, ShapeError
from .shards import Shards

LOCAL = "127.0.0.1"


def serve(
    audit: str | Path,
    *,
    port: int = 0,
    host: str = LOCAL,
    allowed: Sequence[str] = (),
    browser: bool = True,
    user: str | None = None,
    exports: str | Path | None = None,
) -> None:
    """Serves the audit in a folder until it is interrupted; prints the address, whose token lets a browser in.

    `port` 0 takes a free one. Another `host` than this machine's own needs the names by which it is `allowed` to be
    called. Exports are written into `exports`, by default beside the audit. Raises `OutputError`, `ShapeError`,
    `ExtraError`.
    """
    shards = Shards.open(audit)
    if host != LOCAL and not allowed:
        raise ShapeError(
            f"--host {host} lets other machines in; name what they call this one (--allowed-host), or leave the page "
            f"on {LOCAL} and tunnel to it: ssh -L 8000:{LOCAL}:PORT this-machine"
        )
    from .web.run import run  # the extra is needed from here on

    listening = _listening(host, port)
    port = listening.getsockname()[1]
    here = shards.path.absolute()
    folder = here.with_name(f"{here.name}-export") if exports is None else Path(exports)
    hosts = [f"{name}:{port}" for name in (LOCAL, "localhost")]
    hosts += [name for one in allowed for name in (one, f"{one}:{port}")]

    def ready(token: str) -> None:
        _ready(port, token, browser=browser)

    with listening:
        run(shards, listening, hosts=hosts, exports=folder, user=user, ready=ready)


def _listening(host: str, port: int) -> socket.socket:
    """A socket of TCP by name: of one that leaves it open asyncio does not know that small answers are not to wait."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(64)
    except (OSError, OverflowError) as cause:
        listening.close()
        raise OutputError(f"{host}:{port} cannot be listened at ({cause}); give another --port") from cause
    return listening


def _ready(port: int, token: str, *, browser: bool) -> None:
    address = f"http://{LOCAL}:{port}/?token={token}"
    print(f"review    {address}", flush=True)
    print(
        f"          from another machine: ssh -L {port}:{LOCAL}:{port} this-machine, then the same address there; "
        "Ctrl-C ends it",
        file=sys.stderr,
        flush=True,
    )
    if browser:
        opening = Timer(0.5, webbrowser.open, [address])
        opening.daemon = True
        opening.start()
