"""Starts the review page: `serve(audit)`."""

from __future__ import annotations

import socket
import sys
import webbrowser
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from threading import Timer

from ..errors import OutputError, ShapeError
from .shards import Shards

LOCAL = "127.0.0.1"


def serve(
    audit: str | Path,
    *,
    port: int | None = None,
    host: str = LOCAL,
    allowed: Sequence[str] = (),
    browser: bool = True,
    user: str | None = None,
    exports: str | Path | None = None,
) -> None:
    """Serves the audit in a folder until it is interrupted; prints the address, whose token lets a browser in.

    `port` None takes one that is always the same for this folder where it is free: what a browser keeps (the place,
    decisions that wait) it keeps for a port. 0 takes any. Another `host` than this machine's own needs the names by
    which it is `allowed` to be called. Exports are written into `exports`, by default beside the audit. Raises
    `OutputError`, `ShapeError`, `ExtraError`.
    """
    shards = Shards.open(audit)
    if host != LOCAL and not allowed:
        raise ShapeError(
            f"--host {host} lets other machines in; name what they call this one (--allowed-host), or leave the page "
            f"on {LOCAL} and tunnel to it: ssh -L 8000:{LOCAL}:PORT this-machine"
        )
    from .web.run import run  # the extra is needed from here on

    listening = _usual(host, port_of(shards.path)) if port is None else _listening(host, port)
    bound = int(listening.getsockname()[1])
    here = shards.path.absolute()
    folder = here.with_name(f"{here.name}-export") if exports is None else Path(exports)
    hosts = [f"{name}:{bound}" for name in (LOCAL, "localhost")]
    hosts += [name for one in allowed for name in (one, f"{one}:{bound}")]

    def ready(token: str) -> None:
        _ready(allowed[0] if host not in (LOCAL, "0.0.0.0", "::") else LOCAL, bound, token, browser=browser)

    with listening:
        run(shards, listening, hosts=hosts, exports=folder, user=user, ready=ready)


def port_of(audit: Path) -> int:
    """The port of an audit: below those that the system gives away, far from those that have a meaning."""
    return 20_000 + int.from_bytes(sha256(str(audit.resolve()).encode()).digest()[:4], "big") % 10_000


def _usual(host: str, port: int) -> socket.socket:
    """At that port, or at any where it is taken."""
    try:
        return _listening(host, port)
    except OutputError:
        return _listening(host, 0)


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


def _ready(name: str, port: int, token: str, *, browser: bool) -> None:
    address = f"http://{name if ':' in name else f'{name}:{port}'}/?token={token}"
    tunnel = f"from another machine: ssh -L {port}:{LOCAL}:{port} this-machine, then the same address there; "
    print(f"review    {address}", flush=True)
    print(f"          {tunnel if name == LOCAL else ''}Ctrl-C ends it", file=sys.stderr, flush=True)
    if browser:
        opening = Timer(0.5, webbrowser.open, [address])
        opening.daemon = True
        opening.start()
