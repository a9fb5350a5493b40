"""uvicorn with what a page on one's own machine needs and no more."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import uvicorn

from ...decisions.store import Decisions
from ..shards import Shards
from ..view import View
from ..worker import Worker
from .app import application
from .site import Site


def run(
    shards: Shards,
    listening: socket.socket,
    *,
    hosts: Sequence[str],
    exports: Path,
    user: str | None,
    ready: Callable[[str], None],
) -> None:
    """Serves until interrupted; `ready` is told the token when the first request can come."""
    decisions = Decisions.open(shards.path, fingerprint=shards.info["fingerprint"])
    worker = Worker(str(shards.path.resolve()))
    try:
        site = Site(View(shards, decisions), worker, listening.getsockname()[1], exports, user)
        config = uvicorn.Config(
            application(site, hosts),
            http="h11",
            ws="none",
            lifespan="off",
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=2,
        )
        worker.warm()
        ready(site.secrets.token)
        with suppress(KeyboardInterrupt):  # Ctrl-C is how it ends
            uvicorn.Server(config).run(sockets=[listening])
    finally:
        worker.close()
        decisions.close()
