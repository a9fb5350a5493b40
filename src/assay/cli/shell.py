"""What all commands share: the app, their options, refusals as one line, progress on stderr."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import AssayError, AssayWarning

if TYPE_CHECKING:
    from ..engine import Progress

app = typer.Typer(
    help="Which training samples should an expert look at, why, and can the answer be trusted?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

AuditPath = Annotated[Path, typer.Argument(help="The folder of an audit.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]


@contextmanager
def refusals() -> Generator[None]:
    """Errors as one line on stderr, warnings likewise."""
    warnings.showwarning = _show_warning
    try:
        yield
    except (AssayError, OSError) as error:
        print(f"assay: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as stopped:
        print("assay: interrupted; the same command goes on where it stopped", file=sys.stderr)
        raise typer.Exit(130) from stopped


def _show_warning(message: Warning | str, category: type[Warning], *_rest: Any) -> None:
    if issubclass(category, AssayWarning):
        print(f"assay: {message}", file=sys.stderr)


def progress() -> Progress | None:
    if not sys.stderr.isatty():
        return None
    from ..engine import rich_progress

    return rich_progress()
