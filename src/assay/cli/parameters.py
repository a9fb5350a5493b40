"""Influence through any parameters of a network: `assay influence`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from .shell import Json, Overwrite, app, refusals

SHOWN = 10  # samples listed


@app.command()
def influence(
    data: Annotated[str, typer.Argument(help="A folder of images; or a table whose feature columns are the inputs.")],
    model: Annotated[
        str,
        typer.Option(help="package.module:factory, which returns the network, or it and a transform of its images."),
    ],
    weights: Annotated[Path | None, typer.Option(help="The network's weights, .safetensors or .pt.")] = None,
    params: Annotated[str | None, typer.Option(help="Modules, parameters or patterns, by commas; else all.")] = None,
    inverse: Annotated[str, typer.Option(help="auto, dense, cg, nystrom, arnoldi, kfac, ekfac or lissa.")] = "auto",
    damping: Annotated[float, typer.Option(help="Added to the curvature.")] = 1e-3,
    rank: Annotated[int | None, typer.Option(min=1, help="Of nystrom and arnoldi.")] = None,
    rtol: Annotated[float, typer.Option(help="Median error that auto accepts.")] = 0.05,
    l2: Annotated[float, typer.Option(help="Weight decay of the training.")] = 0.0,
    loss: Annotated[str, typer.Option(help="softmax, logistic or linear.")] = "softmax",
    label: Annotated[str | None, typer.Option(help="Label column of a table.")] = None,
    features: Annotated[str | None, typer.Option(help="Feature columns: names or globs, by commas.")] = None,
    id: Annotated[str | None, typer.Option(help="Column of unique ids; else the row position.")] = None,
    weight: Annotated[str | None, typer.Option(help="Column of weights; 2 is a row given twice.")] = None,
    sample: Annotated[int | None, typer.Option(min=1, help="Rows over which curvature is summed; else all.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the sample, and of the rows the error is measured on.")] = 0,
    budget: Annotated[int, typer.Option(min=1, help="MiB for one pass.")] = 512,
    out: Annotated[Path, typer.Option(help="Folder to write; an interrupted one goes on.")] = Path("influence"),
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Score every sample by how far it moves any parameters of a network, and say how exact the scores are."""
    with refusals():
        from ..features.factory import build
        from ..features.network import samples_of
        from ..influence.network import Influence
        from ..influence.scored import claim, named_inverse, write_scores
        from ..sources.images import ImageFolder, holds_images, image_tensor

        network, transform = build(model, weights)
        work = claim(out, overwrite=overwrite)
        images = holds_images(Path(data))
        columns: dict[str, Any] = {"label": label, "features": features, "id": id, "weight": weight}
        given: Any = ImageFolder(data, transform=transform or image_tensor) if images else data
        told = {"data": data, "model": model, "params": params, "inverse": inverse, "damping": damping, "l2": l2,
                "loss": loss, "sample": sample, "seed": seed}  # fmt: skip
        made = Influence(
            network, loss, samples_of(given, **columns),
            params=None if params is None else [each.strip() for each in params.split(",")],
            inverse=named_inverse(inverse, damping=damping, rank=rank, rtol=rtol, work=work), l2=l2, sample=sample,
            seed=seed, budget=budget * 2**20,
        )  # fmt: skip
        found = write_scores(made, out, told)
        if as_json:
            print(json.dumps(found, indent=2))
            return
        print(f"scored    {found['rows']:,} samples through {found['parameters']:,} parameters, {found['method']}")
        for sentence in found["diagnosis"]:
            print(f"          {sentence}")
        _print_first(out)


def _print_first(out: Path) -> None:
    import pyarrow.parquet as pq

    from ..influence.scored import SCORES

    first = pq.read_table(out / SCORES).sort_by([("cooks_distance", "descending")]).slice(0, SHOWN)
    for row in first.to_pylist():
        print(f"  {row['cooks_distance']:12.4g}  {row['id']}  ({row['given_label']}, loss {row['loss']:.3g})")
    print(f"scores    {out / SCORES}")
