"""Questions to a finished audit, or to several: `assay score`, `group`, `duplicates`, `ensemble`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .shell import AuditPath, Json, Overwrite, app, refusals

if TYPE_CHECKING:
    import pyarrow as pa

    from ..auditing.result import Audit

SHOWN = 10  # rows of a table


@app.command()
def score(
    path: AuditPath,
    new: Annotated[str, typer.Argument(help="New samples: a Parquet file, folder or glob; CSV; NPZ.")],
    to: Annotated[Path | None, typer.Option(help="Write their scores here, .parquet or .csv.")] = None,
    encoded: Annotated[
        bool, typer.Option("--encoded", help="They are what the audited model's encoder makes.")
    ] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Score new samples against the saved head: which lie where the training set is thin, which contradict it."""
    with refusals():
        shift = _opened(path, to, overwrite=overwrite).shift(new, encoded=encoded)
        _write(shift.table, to)
        if as_json:
            classes = None if shift.classes is None else shift.classes.to_pylist()
            found = {name: vars(getattr(shift, name)) for name in ("thin", "contradicting")}
            print(json.dumps({"rows": len(shift.table), **found, "classes": classes}, indent=2, default=str))
            return
        print(shift.sentence)
        for name, by in (("thin", "under_represented_score"), ("contradicts", "mislabeled_score")):
            rows = shift.table.filter(shift.table[name]).sort_by([(by, "descending")])
            if len(rows):
                print(f"\n{name}, the first of {len(rows):,}")
                _print_rows(rows, ("id", "given_label", "suggested_label", "confidence", by))


@app.command()
def group(
    path: AuditPath,
    where: Annotated[
        str | None, typer.Option(help="A condition: \"given_label == 'cat' and confidence > 0.9\".")
    ] = None,
    ids: Annotated[str | None, typer.Option(help="Or the samples themselves, by commas.")] = None,
    order: Annotated[str, typer.Option(help="1, 2 or newton.")] = "2",
    refit: Annotated[bool, typer.Option("--refit", help="Fit the head again without them: the exact answer.")] = False,
    as_json: Json = False,
) -> None:
    """Say what removing a group of samples together does to the model, to themselves and to each class."""
    with refusals():
        if (where is None) == (ids is None):
            raise typer.BadParameter("name the group by --where or by --ids, one of them")
        if order not in ("1", "2", "newton"):
            raise typer.BadParameter(f"--order {order} is not one of 1, 2, newton")
        audit = _opened(path)
        asked = None if ids is None else _ids(ids, audit.dataset.schema.field("id").type)
        effect = audit.group(asked, where=where, order=order if order == "newton" else int(order), refit=refit)
        influence = effect.influence
        found: dict[str, Any] = {
            "samples": len(influence.ids),
            "share_of_weight": influence.share,
            "cooks_distance": influence.cooks_distance,
            "own_loss_change": effect.own_loss_change,
            "answer": "refit" if refit else f"order {order}",
            "classes": effect.others.to_pylist(),
        }
        if as_json:
            print(json.dumps(found, indent=2, default=str))
            return
        print(f"group     {found['samples']:,} samples, {influence.share:.2%} of the weight")
        print(f"distance  {influence.cooks_distance:.4g} (Cook's, of the group)")
        print(f"itself    mean loss {effect.own_loss_change:+.4g} without it ({found['answer']})")
        print("others    mean change of loss without it; + it supported them")
        _print_rows(effect.others, ("class", "rows", "loss_change"))


@app.command()
def duplicates(
    path: AuditPath,
    within: Annotated[float, typer.Option(help="Share of the typical distance to the nearest neighbour.")] = 0.35,
    to: Annotated[Path | None, typer.Option(help="Write the whole table here, .parquet or .csv.")] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Find samples so close that they hide each other from leave-one-out, and score each without its group."""
    with refusals():
        found = _opened(path, to, overwrite=overwrite).near_duplicates(within=within)
        _write(found, to)
        if as_json:
            print(json.dumps(found.to_pylist(), indent=2, default=str))
            return
        groups = len(set(found["group"].to_pylist()))
        print(f"{len(found):,} samples in {groups:,} groups of near-duplicates, the most suspect first")
        if groups:
            _print_rows(
                found, ("group", "id", "given_label", "suggested_label", "loo_loss", "group_loo_loss", "labels_agree")
            )


@app.command()
def ensemble(
    paths: Annotated[list[Path], typer.Argument(help="Folders of audits of one data set.", metavar="path…")],
    top: Annotated[int, typer.Option(min=1, help="Rows shown.")] = SHOWN,
    to: Annotated[Path | None, typer.Option(help="Write the whole table here, .parquet or .csv.")] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Join audits of several models of one data set into one ranking: the mean of the losses of their labels."""
    with refusals():
        from ..auditing.ensemble import ensemble as joined

        audits = [_opened(path, to, overwrite=overwrite) for path in paths]
        found = joined(audits)
        _write(found.table, to)
        shown = found.top(top)
        if as_json:
            told = {"members": found.members.to_pylist(), "top": shown.to_pylist()}
            print(json.dumps(told, indent=2, default=str))
            return
        _print_rows(found.members, ("member", "loo_accuracy", "held_out_accuracy", "label_loss", "weight"))
        print(f"\nthe first {len(shown):,} of {len(found.table):,}")
        _print_rows(shown, ("id", "given_label", "suggested_label", "mislabeled_score", "agreement"), top)


def _opened(path: Path, to: Path | None = None, *, overwrite: bool = False) -> Audit:
    """The audit, once it is known that a table may be written to `to`."""
    from ..auditing.load import load

    audit = load(path)
    if to is not None:
        audit.check_target(to, overwrite=overwrite)
    return audit


def _write(table: pa.Table, to: Path | None) -> None:
    if to is not None:
        from ..auditing.export import write_table

        write_table(table, to)


def _ids(text: str, kind: pa.DataType) -> list[Any]:
    parts = [part.strip() for part in text.split(",")]
    if kind != "int64":
        return list(parts)
    if bad := [part for part in parts if not part.lstrip("-").isdigit()]:
        raise typer.BadParameter(f"--ids: {bad[0]!r} is no integer, but the ids of this audit are")
    return [int(part) for part in parts]


def _print_rows(table: pa.Table, columns: tuple[str, ...], most: int = SHOWN) -> None:
    """The first rows as aligned text."""
    rows = [[_cell(value) for value in row.values()] for row in table.select(columns).slice(0, most).to_pylist()]
    lines = [list(columns), *rows]
    widths = [max(len(line[k]) for line in lines) for k in range(len(columns))]
    for line in lines:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    if len(table) > most:
        print(f"  … {len(table) - most:,} more")


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
