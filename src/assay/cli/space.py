"""Questions about the input space of an audited table: `assay regions`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .shell import AuditPath, Json, Overwrite, app, refusals


@app.command()
def regions(
    path: AuditPath,
    columns: Annotated[str | None, typer.Option(help="Numeric columns, by commas; else all of the table's.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Boxes, at most.")] = 8,
    to: Annotated[Path | None, typer.Option(help="Write the rules here, .parquet or .csv.")] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Find where in the input space the influence is: boxes as rules an expert can read, and clusters."""
    with refusals():
        from ..auditing.export import write_table
        from ..auditing.load import load

        audit = load(path)
        if to is not None:
            audit.check_target(to, overwrite=overwrite)
        names = None if columns is None else [name.strip() for name in columns.split(",")]
        found = audit.regions(names, top=top)
        if to is not None:
            write_table(found.rules, to)
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
