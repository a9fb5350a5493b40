"""Questions about the input space of an audited table: `assay regions`, `assay cuts`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .shell import AuditPath, Json, Overwrite, app, refusals


@app.command()
def regions(
    path: AuditPath,
    columns: Annotated[str | None, typer.Option(help="Numeric columns, by commas; else the audited ones.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Boxes, at most.")] = 8,
    to: Annotated[Path | None, typer.Option(help="Write the rules here, .parquet or .csv.")] = None,
    clusters: Annotated[Path | None, typer.Option(help="Write the clusters here, .parquet or .csv.")] = None,
    needs: Annotated[Path | None, typer.Option(help="Write where to sample next here, .parquet or .csv.")] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Find where in the input space the influence is: boxes as rules an expert can read, and clusters."""
    with refusals():
        from ..auditing.export import write_table
        from ..auditing.load import load

        audit = load(path)
        targets = [target for target in (to, clusters, needs) if target is not None]
        if len(set(targets)) < len(targets):
            raise typer.BadParameter("--to, --clusters and --needs are files of their own; give each another name")
        for target in targets:
            audit.check_target(target, overwrite=overwrite)
        found = audit.regions(None if columns is None else _names(columns), top=top)
        if to is not None:
            write_table(found.rules, to)
        if clusters is not None:
            write_table(found.clusters, clusters)
        if needs is not None:
            write_table(found.needs(), needs)
        if as_json:
            tables = {"rules": found.rules.to_pylist(), "clusters": found.clusters.to_pylist()}
            print(json.dumps({"columns": found.columns, **tables}, indent=2, default=str))
            return
        for rule in found.rules.to_pylist():
            print(rule["rule"])
            print(
                f"  {rule['coverage']:.1%} of the samples, {rule['influence_share']:.1%} of the influence (lift "
                f"{rule['lift']:.1f}), density {rule['density']:.2g}, stability {rule['stability']:.2f}, "
                f"mislabeled {rule['mislabeled']:.0%}, boundary {rule['boundary']:.0%}"
            )
        print(f"\n{len(found.clusters)} clusters of the most influential samples")
        for cluster in found.clusters.to_pylist()[:top]:
            print(f"  {cluster['rows']:,} about id {cluster['representative']}: {cluster['extent']}")


@app.command()
def cuts(
    path: AuditPath,
    vary: Annotated[str, typer.Option(help="The two columns swept, by a comma.")],
    columns: Annotated[str | None, typer.Option(help="Columns to fix, by commas; else the other audited ones.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Cuts, at most.")] = 12,
    out: Annotated[Path, typer.Option(help="Folder to write: a page and its pictures.")] = Path("cuts"),
    polar: Annotated[bool, typer.Option("--polar", help="Draw the two as distance and angle.")] = False,
    format: Annotated[str, typer.Option(help="Of the pictures: png or svg.")] = "png",
    overwrite: Overwrite = False,
) -> None:
    """Draw the two-dimensional cuts that hold most influence: table and model side by side, and a page of them."""
    with refusals():
        from ..auditing.load import load
        from ..cut_page import write_cuts

        page = write_cuts(
            load(path), out, _names(vary), columns=None if columns is None else _names(columns), top=top, polar=polar,
            format=format, overwrite=overwrite,
        )  # fmt: skip
        print(f"page      {page}")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]
