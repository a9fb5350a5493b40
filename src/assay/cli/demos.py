"""`assay demo`: the main job and the paper's toy problems on embedded data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .acas import demo as acas
from .cifar import demo as cifar10
from .shell import Json, app, progress, refusals
from .summary import found_of, print_summary

DEMOS = ("digits", "toys", "trace", "acas", "cifar10")


@app.command()
def demo(
    name: Annotated[
        str,
        typer.Argument(
            help="digits (an audit), toys (Fig. 1 of the paper), acas (Fig. 3), trace (Fig. 4), cifar10 (Fig. 5)."
        ),
    ] = "digits",
    out: Annotated[Path | None, typer.Option(help="Folder to write; else audit-digits or demo-NAME.")] = None,
    flips: Annotated[float, typer.Option(help="Share of the labels to flip, of digits and cifar10.")] = 0.05,
    seed: Annotated[int, typer.Option(min=0, help="Of flips, points and weights.")] = 0,
    table: Annotated[str, typer.Option(help="Of acas: hcas, or acasxu with --nets.")] = "hcas",
    nets: Annotated[Path | None, typer.Option(help="Of acas: the published networks.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Of cifar10: its file or folder; else by ASSAY_DATA or CIFAR10_URL."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show on embedded data what assay finds: planted label errors, influential points, influence through training."""
    with refusals():
        if name not in DEMOS:
            raise typer.BadParameter(f"there is no demo {name!r}; choose {', '.join(DEMOS)}")
        if name == "digits":
            _digits(out or Path("audit-digits"), flips, seed, as_json=as_json)
            return
        folder = out or Path(f"demo-{name}")
        if name == "acas":
            acas(folder, table, nets, seed, overwrite=True, as_json=as_json)
            return
        if name == "cifar10":
            cifar10(folder, data, flips, seed, as_json=as_json)
            return
        from .toys import through_time, toys

        found = (toys if name == "toys" else through_time)(folder, seed, progress())
        if as_json:
            print(json.dumps(found, indent=2))
            return
        for what, numbers in found.items():
            print(what)
            for label, value in numbers.items():
                print(f"  {label:50} {value:.3g}")
        print(f"picture   {folder / f'{name}.png'}")


def _digits(out: Path, flips: float, seed: int, *, as_json: bool) -> None:
    from ..auditing.run import audit as run
    from ..datasets.digits import digits
    from ..report import write_report

    data = digits(flips, seed=seed)
    result = run(
        (data.features, data.labels), image_shape=data.image_shape, out=out, overwrite=True, progress=progress()
    )
    page = write_report(result)
    print_summary(result, as_json=as_json, found=found_of(result, data.flipped.tolist()), page=page)
