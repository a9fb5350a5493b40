"""The review page in the browser: `assay review`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .shell import AuditPath, app, refusals


@app.command()
def review(
    path: AuditPath,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Where it listens, else at a port of this audit's; 0: any.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address it listens at; another than this machine's own needs --allowed-host.")
    ] = "127.0.0.1",
    allowed_host: Annotated[
        list[str] | None, typer.Option(help="What browsers on other machines call this one; may be given again.")
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
    user: Annotated[str | None, typer.Option(help="Who decides, where a browser has not said so.")] = None,
    exports: Annotated[Path | None, typer.Option(help="Where its exports go; else AUDIT-export beside it.")] = None,
) -> None:
    """Look at the ranked samples, decide on each with one key, and export the cleaned data."""
    with refusals():
        from ..review.serve import serve

        serve(path, port=port, host=host, allowed=allowed_host or (), browser=browser, user=user, exports=exports)
