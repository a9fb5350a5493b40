"""The collision-avoidance tables: `assay acas table`, and `assay demo acas`, which audits one by its surrogate."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .shell import Json, app, progress, refusals
from .summary import print_summary

if TYPE_CHECKING:
    from ..datasets.encounters import Encounters
    from ..engine import Progress

acas = typer.Typer(help="The collision-avoidance tables.", no_args_is_help=True)
app.add_typer(acas, name="acas")

HELD_OUT = 0.2
FEW = (200.0, 600.0, 1000.0)  # speeds of the demo's table of the published networks


@acas.command()
def table(
    kind: Annotated[
        str, typer.Option(help="hcas (solved here) or acasxu (labelled by the published networks).")
    ] = "hcas",
    out: Annotated[Path, typer.Option(help="Folder to write, as Parquet files.")] = Path("table"),
    nets: Annotated[
        Path | None, typer.Option(help="The published networks: their NPZ, or the folder they are in.")
    ] = None,
    previous: Annotated[
        str | None, typer.Option(help="The advisory that stands: COC, WL, WR, SL, SR; else COC, or the networks' own.")
    ] = None,
    own: Annotated[str | None, typer.Option(help="Speeds of the own ship in ft/s, by commas; else the usual.")] = None,
    intruder: Annotated[str | None, typer.Option(help="Of the intruder; all pairs are in the table.")] = None,
    held_out: Annotated[float, typer.Option(min=0, max=0.9, help="Share of the rows given weight zero.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the rows held out.")] = 0,
    as_json: Json = False,
) -> None:
    """Write a table of encounters: rho, theta, psi, v_own, v_int, tau, previous, advisory."""
    with refusals():
        from ..datasets.acas import SHARD, write_table
        from ..engine import stage

        told = progress()
        pairs = {"own": speeds("--own", own), "intruder": speeds("--intruder", intruder)}
        found = encounters(
            kind, out / "_labels", nets, previous=previous, held_out=held_out, seed=seed, told=told, **pairs
        )
        with stage(told, "write", -(-len(found) // SHARD)) as advance:
            files = write_table(found, out, advance=advance)
        if as_json:
            print(
                json.dumps({"name": found.name, "rows": len(found), "files": [str(file) for file in files]}, indent=2)
            )
            return
        print(f"table     {found.name}: {len(found):,} rows in {len(files)} files")
        print(f"folder    {out}/")
        if held_out:
            columns = ",".join(found.columns)
            print(
                f"next      assay audit {shlex.quote(str(out))} --label advisory --features {columns} --weight weight"
            )


def speeds(option: str, told: str | None) -> tuple[float, ...] | None:
    """Numbers by commas."""
    if told is None:
        return None
    try:
        found = tuple(float(part) for part in told.split(","))
    except ValueError:
        found = ()
    if not found or not all(0 <= speed < math.inf for speed in found):
        raise typer.BadParameter(f"{option} {told}: give speeds in ft/s by commas, such as 200,600")
    return found


def encounters(
    kind: str,
    labels: Path,
    nets: Path | None,
    *,
    held_out: float,
    seed: int,
    told: Progress | None,
    previous: str | None = None,
    own: tuple[float, ...] | None = None,
    intruder: tuple[float, ...] | None = None,
) -> Encounters:
    """The table called `kind` of all pairs of the speeds; its labels are kept in `labels` where they are solved for."""
    from ..datasets.acas import INTRUDER, OWN, SPEEDS, acasxu_encounters, hcas_encounters
    from ..datasets.acasxu import read_networks
    from ..engine import stage

    if kind == "hcas":
        pairs = [(a, b) for a in own or SPEEDS for b in intruder or SPEEDS]
        with stage(told, "solve", len(pairs)) as advance:
            return hcas_encounters(
                labels, pairs=pairs, previous=previous or "COC", held_out=held_out, seed=seed, advance=advance
            )
    if kind != "acasxu":
        raise typer.BadParameter(f"--kind {kind} is neither hcas nor acasxu")
    if nets is None:
        raise typer.BadParameter("--kind acasxu needs the published networks: --nets FILE or FOLDER")
    networks = read_networks(nets)
    if previous not in (None, networks.previous):
        raise typer.BadParameter(
            f"--previous {previous}: these networks are those for {networks.previous}; give others, or use --kind hcas"
        )
    return acasxu_encounters(networks, own=own or OWN, intruder=intruder or INTRUDER, held_out=held_out, seed=seed)


def demo(out: Path, kind: str, nets: Path | None, seed: int, *, overwrite: bool, as_json: bool) -> None:
    """Builds a table, trains its surrogate, audits it by that, and writes regions, cuts and the report."""
    from ..auditing.export import write_table
    from ..auditing.run import audit
    from ..cut_page import write_cuts
    from ..features.keep import Encoding
    from ..report import write_report

    told = progress()
    few = None if kind == "hcas" else FEW
    found = encounters(kind, out / "labels", nets, held_out=HELD_OUT, seed=seed, told=told, own=few, intruder=few)
    batch = next(found.batches(len(found)))
    seen = batch.w > 0
    net = learned(found, batch.x[seen], batch.y[seen], out / "surrogates", seed, told)
    right = {
        name: accuracy(net, batch.x[rows], batch.y[rows]) for name, rows in (("trained", seen), ("held out", ~seen))
    }
    del batch
    result = audit(
        found, model=net, refit=False, damping=1e-4, out=out / "audit", overwrite=overwrite, progress=told, seed=seed,
        encoding=Encoding(keep="recompute"),
    )  # fmt: skip
    regions = result.regions(seed=seed)
    write_table(regions.rules, out / "regions.csv")
    write_table(regions.needs(), out / "needs.csv")
    page = write_cuts(result, out / "cuts", ["rho", "theta"], overwrite=True)
    report = write_report(result)
    if as_json:
        extra = {"accuracy": right, "rules": regions.rules.to_pylist(), "cuts": str(page), "report": str(report)}
        print(json.dumps({**result.summary(), "table": found.name, **extra}, indent=2, default=str))
        return
    print(f"table     {found.name}: {len(found):,} points, {HELD_OUT:.0%} held out")
    print(
        f"surrogate right on {right['trained']:.2%} of the points trained on, {right['held out']:.2%} of those held out"
    )
    print_summary(result, as_json=False, page=report)
    for rule in regions.rules.slice(0, 3).to_pylist():
        print(f"region    {rule['rule']}: {rule['coverage']:.1%} of points, {rule['influence_share']:.1%} of influence")
    print(f"regions   {out / 'regions.csv'}")
    print(f"cuts      {page}")


def learned(found: Encounters, x: Any, y: Any, folder: Path, seed: int, told: Progress | None) -> Any:
    """The table's surrogate, taught these of its points; each table and seed has its own place in the folder."""
    import torch

    from ..engine import stage
    from ..models.schedules import one_cycle
    from ..models.surrogate import surrogate
    from ..models.training import Training, train

    ranges = [(float(column.min()), float(column.max())) for column in x.T]
    settings = Training(40, lr=5e-3, batch_size=2048, schedule=one_cycle(0.2), seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = surrogate(ranges, len(found.vocabulary), columns=found.columns)
    own = folder / f"{found.fingerprint()[:12]}-{seed}"
    with stage(told, "train the surrogate", settings.epochs) as advance:
        train(net, x, y, settings, folder=own, advance=advance)
    return net


def accuracy(net: Any, x: Any, y: Any) -> float:
    """Share of rows whose largest logit is their class's."""
    import torch

    with torch.inference_mode():
        right = sum(int((net(a).argmax(1) == b).sum()) for a, b in zip(x.split(65_536), y.split(65_536), strict=True))
    return right / len(y)
