"""From data to an audit and what is made of it: `assay audit`, `report`, `trust`, `export`, `demo`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .shell import AuditPath, Json, Overwrite, app, progress, refusals
from .summary import print_summary

if TYPE_CHECKING:
    from ..auditing.plan import Plan


@app.command()
def audit(
    data: Annotated[
        str, typer.Argument(help="Parquet file, folder or glob; CSV; NPZ; with --model also a folder of images.")
    ],
    label: Annotated[str | None, typer.Option(help="Label column (several, by commas, for regression).")] = None,
    out: Annotated[Path, typer.Option(help="Folder to write; an interrupted audit there goes on.")] = Path("audit"),
    features: Annotated[str | None, typer.Option(help="Feature columns: names or globs, by commas.")] = None,
    embedding: Annotated[str | None, typer.Option(help="List column that holds the embedding.")] = None,
    id: Annotated[str | None, typer.Option(help="Column of unique ids; else the row position.")] = None,
    weight: Annotated[str | None, typer.Option(help="Column of weights; 2 is a row given twice.")] = None,
    family: Annotated[str | None, typer.Option(help="softmax, logistic or linear; else from the labels.")] = None,
    l2: Annotated[str, typer.Option(help="λ2, or 'auto': the one with the least leave-one-out loss.")] = "auto",
    standardize: Annotated[bool, typer.Option(help="Centre and scale the columns first.")] = True,
    image_shape: Annotated[str | None, typer.Option(help="Rows are images: h,w or h,w,channels.")] = None,
    model: Annotated[
        str | None,
        typer.Option(help="A network: package.module:factory, which returns it, or it and a transform of its images."),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="The network's weights, .safetensors or .pt.")] = None,
    layer: Annotated[str | None, typer.Option(help="Its last linear layer, by name.")] = None,
    params: Annotated[
        str | None, typer.Option(help="Instead of that layer any modules, parameters or patterns: `assay influence`.")
    ] = None,
    inverse: Annotated[str | None, typer.Option(help="With --params: auto, cg, ekfac, …: `assay influence`.")] = None,
    refit: Annotated[bool, typer.Option(help="Fit the head anew, or keep it (with --l2 or --damping).")] = True,
    damping: Annotated[float, typer.Option(min=0, help="Added to the curvature of a kept head.")] = 0.0,
    device: Annotated[str | None, typer.Option(help="Where the network runs: cpu, cuda, mps.")] = None,
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    keep: Annotated[str, typer.Option(help="The embedding: auto, memory, file or recompute.")] = "auto",
    mirror: Annotated[bool, typer.Option("--mirror", help="Run images mirrored too: the mean embedding.")] = False,
    mirror_only: Annotated[
        bool,
        typer.Option("--mirror-only", help="Run their mirror images alone: of a network that knows them by heart."),
    ] = False,
    skip_corrupt: Annotated[
        bool, typer.Option("--skip-corrupt", help="Leave images out that cannot be decoded, and count them.")
    ] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; else the threads of one.")] = None,
    trim: Annotated[bool, typer.Option(help="Judge labels without the suspects, and by mistaken classes.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="Of the sample and of the planted flips.")] = 0,
    overwrite: Overwrite = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would take.")] = False,
    as_json: Json = False,
) -> None:
    """Score every sample of a table, rank the samples, and say why each is influential."""
    if params is not None or inverse is not None:
        if model is None or embedding or not refit or mirror or mirror_only or skip_corrupt or dry_run:
            raise typer.BadParameter("--params and --inverse go with --model; for all their options: assay influence")
        from .parameters import influence

        influence(
            data, model, weights, params, inverse or "auto", damping or 1e-3, l2=0.0 if l2 == "auto" else _number(l2),
            loss=family or "softmax", label=label, features=features, id=id, weight=weight, seed=seed, out=out,
            overwrite=overwrite, as_json=as_json,
        )  # fmt: skip
        return
    with refusals():
        given: dict[str, Any] = {
            "label": _names(label),
            "features": features,
            "embedding": embedding,
            "id": id,
            "weight": weight,
        }
        shape = None if image_shape is None else _shape(image_shape)
        penalty = "auto" if l2 == "auto" else _number(l2)
        if mirror and mirror_only:
            raise typer.BadParameter("--mirror runs images as they are too, --mirror-only does not; give one of them")
        samples: Any = data
        if model is not None:
            network, samples = _network(model, weights, data, skip_corrupt=skip_corrupt)
            encoding = _encoding(device, precision, keep, mirror="only" if mirror_only else mirror)
            if dry_run:
                planned = _plan_network(
                    network, layer, family, encoding, samples, penalty, {**given, "trim": trim and refit}
                )
                _print_plan(planned, as_json=as_json)
                return
            given |= {"model": network, "layer": layer, "refit": refit, "damping": damping, "encoding": encoding}
        elif any(
            (
                weights,
                layer,
                not refit,
                damping,
                device,
                mirror,
                mirror_only,
                skip_corrupt,
                precision != "fp32",
                keep != "auto",
            )
        ):
            raise typer.BadParameter(
                "--weights, --layer, --no-refit, --damping, --device, --precision, --keep, --mirror, "
                "--mirror-only, --skip-corrupt: of a --model"
            )
        if dry_run:
            _print_plan(_plan(data, {**given, "image_shape": shape}, family, penalty, trim=trim), as_json=as_json)
            return
        from ..auditing.run import audit as run

        result = run(
            samples, **given, family=family, l2=penalty, standardize=standardize, image_shape=shape, out=out,
            overwrite=overwrite, workers=workers, progress=progress(), seed=seed,
            trim=trim,
        )  # fmt: skip
        print_summary(result, as_json=as_json)


def _network(model: str, weights: Path | None, data: str, *, skip_corrupt: bool) -> tuple[Any, Any]:
    """The network, and its samples: images through its transform, or the path of a table."""
    from ..features.factory import build
    from ..sources.images import ImageFolder, holds_images, image_tensor

    network, transform = build(model, weights)
    if not holds_images(Path(data)):
        return network, data
    corrupt = "skip" if skip_corrupt else "raise"
    return network, ImageFolder(data, transform=transform or image_tensor, corrupt=corrupt)


def _encoding(device: str | None, precision: str, keep: str, *, mirror: bool | str) -> Any:
    from ..features.keep import Encoding

    return Encoding(device=device, precision=precision, keep=keep, mirror=mirror)


@app.command()
def report(
    path: AuditPath,
    to: Annotated[Path | None, typer.Option(help="File to write; else report.html in the audit.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the audit as one self-contained HTML file."""
    with refusals():
        from ..auditing.load import load
        from ..report import write_report

        print(write_report(load(path), to, overwrite=overwrite))


@app.command()
def trust(path: AuditPath, as_json: Json = False) -> None:
    """Say whether the scores can be trusted, and why; exit code 3 means they cannot."""
    with refusals():
        from ..auditing.load import load

        opened = load(path)
        found = opened.trust
        if as_json:
            print(json.dumps(opened.info["trust"], indent=2))
        else:
            _print_trust(found.verdict, found.reason, [(c.verdict, c.name, c.sentence) for c in found.checks])
        if found.verdict == "do not trust":
            raise typer.Exit(3)


@app.command()
def export(
    path: AuditPath,
    to: Annotated[Path, typer.Option(help="The new file, .parquet, .csv or .jsonl, or (images, subset) folder.")],
    format: Annotated[
        str | None,
        typer.Option(
            help="parquet or csv: all rows, suggestions and decisions beside; jsonl: the log of decisions; images: a "
            "folder a class; subset: keep_idx.npy and labels.npy; needs: where to collect more. Else by the name."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", "--force", help="Replace what is there.")] = False,
) -> None:
    """Write the data with suggestions and decisions as extra columns, or cleaned; the original is not changed."""
    with refusals():
        from ..auditing.load import load

        audit = load(path)
        target = audit.export(to, format=format, overwrite=overwrite)
        print(target)
        if format == "subset":
            print((target / "README.txt").read_text(encoding="utf-8"), end="", file=sys.stderr)


def _names(label: str | None) -> str | list[str] | None:
    return [name.strip() for name in label.split(",")] if label and "," in label else label


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as cause:
        raise typer.BadParameter(f"--l2 {text} is neither 'auto' nor a number") from cause


def _shape(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if len(parts) not in (2, 3) or not all(part.strip().isdigit() for part in parts):
        raise typer.BadParameter(f"--image-shape {text} is not h,w or h,w,channels")
    return tuple(int(part) for part in parts)


def _plan(data: str, given: dict[str, Any], family: str | None, l2: float | str, *, trim: bool) -> Plan:
    from ..auditing.plan import plan
    from ..families import family_of
    from ..sources.open import open_source

    regression = None if family is None else family == "linear"
    with TemporaryDirectory(prefix="assay-") as folder:  # a CSV file is counted by converting it, some rows at a time
        source = open_source(data, regression=regression, workdir=folder, **given)
        return plan(source, family_of(source, family), l2, trim=trim)


def _plan_network(
    network: Any,
    layer: str | None,
    family: str | None,
    encoding: Any,
    data: Any,
    l2: float | str,
    given: dict[str, Any],
) -> Plan:
    from ..auditing.plan import plan_network
    from ..features.network import Network

    return plan_network(Network(network, layer, family, encoding=encoding), data, l2, **given)


def _print_plan(expected: Plan, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(expected.to_json(), indent=2))
        return
    print(f"rows      {expected.rows:,} × {expected.columns} columns, {expected.parameters:,} parameters")
    print(f"passes    about {expected.passes}, and λ2 and trust on {expected.sampled_rows:,} rows")
    print(f"time      about {_duration(expected.seconds)} on this machine (within a factor of two)")
    print(f"memory    about {expected.peak_bytes / 2**20:,.0f} MiB at the peak, whatever the number of rows")
    print(f"disk      about {expected.disk_bytes / 2**20:,.1f} MiB")


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _print_trust(verdict: str, reason: str, checks: list[tuple[str, str, str]]) -> None:
    marks = {"trust": "✓", "caution": "!", "do not trust": "✗"}
    print(f"{marks[verdict]} {verdict.upper()}: {reason}\n")
    for judged, name, sentence in checks:
        print(f"  {marks[judged]} {name}: {sentence}")
