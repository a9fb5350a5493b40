"""One HTML file that shows an audit to a person: `write_report(audit)`.

Nothing on the page comes from outside it and nothing in it runs: figures are inline SVG, thumbnails `data:` addresses,
the style sheet stands in the page. Whatever the user's data say (class names, ids, columns, text) is escaped.
"""

from __future__ import annotations

import datetime
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup
from matplotlib.axes import Axes

from . import canvas, plots
from .auditing.result import Audit
from .auditing.target import check_target
from .engine import atomic
from .explore.trust import TrustReport
from .inline import figure_svg
from .shown import shown

DRAWN = 200_000  # rows drawn in a figure at most, evenly picked: more show no more
LARGE, SMALL = 192, 96  # pixels of a sample's picture, and of a neighbour's
NEIGHBOURS = 5
PROMISED = 0.9  # the page's sentence names the least effort that is expected to find this share of the errors
TARGETS = 4  # outputs of a regression that get a figure

VERDICTS = {"trust": ("✓", "Trust it"), "caution": ("!", "Use with caution"), "do not trust": ("✕", "Do not trust it")}

# What the page calls a kind, what to do about it, and what it means.
CLASSES: dict[str, Any] = {
    "errors": "label errors",
    "mislabeled": {
        "name": "mislabeled",
        "hint": "check the label first",
        "meaning": "without the sample the model gives it another label",
    },
    "under-represented": {
        "name": "under-represented",
        "hint": "collect more like these",
        "meaning": "few samples are like it, though its label is plausible",
    },
    "boundary": {
        "name": "boundary",
        "hint": "is the line between the classes clear?",
        "meaning": "two classes nearly tie, among plenty of samples",
    },
}
REGRESSION: dict[str, Any] = {
    "errors": "wrong targets",
    "mislabeled": {
        "name": "suspect target",
        "hint": "check the target first",
        "meaning": "without the sample the model predicts a value far from the one given",
    },
    "under-represented": CLASSES["under-represented"]
    | {"meaning": "few samples are like it, though its target is plausible"},
    "boundary": CLASSES["boundary"]
    | {"hint": "between plausible and suspect", "meaning": "between plausible and suspect"},
}


def write_report(audit: Audit, path: str | Path | None = None, *, per_kind: int = 8, overwrite: bool = False) -> Path:
    """Write the page of `audit` to `path` (`report.html` in the audit's folder) and return where it stands.

    `per_kind` samples of each kind are shown, the strongest of its score first, each with the training samples that
    support and oppose it most. Written atomically. Raises `OutputError` where the file cannot be written, or another
    file is there (unless `overwrite`).
    """
    own = audit.path / "report.html"
    target = check_target(path or own, audit.source, suffixes=(".html", ".htm"), overwrite=overwrite, own=own)
    page = _environment().get_template("report.html.j2").render(_content(audit, per_kind))
    with atomic(target) as temporary:
        Path(temporary).write_text(page, encoding="utf-8")
    return target


def _content(audit: Audit, per_kind: int) -> dict[str, Any]:
    info, regression = audit.info, audit.source.vocabulary is None
    effort = expected_recall(audit.trust, info["rows"])
    return {
        "name": audit.path.resolve().name,
        "path": str(audit.path),
        "where": _where(audit.source.spec()),
        "info": info,
        "classes": audit.source.vocabulary,
        "targets": audit.source.targets[:TARGETS],
        "kinds": {kind: canvas.KINDS[kind] for kind in _shown_kinds(audit)},
        "words": REGRESSION if regression else CLASSES,
        "trust": audit.trust,
        "verdicts": VERDICTS,
        "effort": effort,
        "promise": next((point for point in effort if point["recall"] >= PROMISED), effort[-1] if effort else None),
        "figures": _figures(audit),
        "suspects": _suspects(audit),
        "samples": _samples(audit, per_kind),
        "made": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _shown_kinds(audit: Audit) -> list[str]:
    """The kinds that have a section of their own; a regression has no boundary."""
    without = {"typical"} if audit.source.vocabulary is not None else {"typical", "boundary"}
    return [kind for kind in canvas.KINDS if kind not in without]


def _where(spec: dict[str, Any] | None) -> str:
    """The files the samples came from, as far as the audit knows them."""
    store: dict[str, Any] = {} if spec is None else spec["store"]
    files = store.get("files") or [store.get("path", "")]
    files = list(files.values() if isinstance(files, dict) else files)
    return ", ".join(map(str, files[:5])) + (f" and {len(files) - 5} more" if len(files) > 5 else "") or "in memory"


def expected_recall(
    trust: TrustReport, rows: int, shares: Sequence[float] = (0.01, 0.02, 0.05, 0.1, 0.2)
) -> list[dict[str, float]]:
    """Rows to inspect, their share, the recall of label errors expected there and its spread, from the planted flips.

    `shares` that come to less than one row are left out; between two efforts that were measured recall is linear.
    """
    effort = np.asarray(trust.planted.effort)
    curves = {"recall": np.asarray(trust.planted.recall), "spread": np.asarray(trust.planted.recall_std)}
    return [
        {"share": share, "rows": round(share * rows)}
        | {name: float(np.interp(share, effort, y)) for name, y in curves.items()}
        for share in shares
        if share * rows >= 1
    ]


def _figures(audit: Audit) -> dict[str, Markup]:
    """Name → inline SVG; a figure of what this audit has not got is absent."""
    drawn = [*_trust_figures(audit.trust), *_score_figures(audit), *_class_figures(audit)]
    return {name: figure_svg(draw, name, label, height=height) for name, label, draw, height in drawn}


Drawing = tuple[str, str, Callable[..., Axes], float]  # name, what is read out in its place, what draws it, inches


def _trust_figures(trust: TrustReport) -> Iterator[Drawing]:
    planted, refits = trust.planted, trust.refits
    effort, recall = np.asarray(planted.effort), np.asarray(planted.recall)
    found = effort[min(int(np.searchsorted(recall, 0.99)), len(effort) - 1)]
    seen = effort <= max(0.2, float(found))
    runs, share = np.asarray(planted.individuals)[:, seen], planted.flips / planted.rows
    label = "The share of label errors found against the share of rows inspected"
    yield "recall", label, partial(plots.recall_against_effort, effort[seen], runs, share=share), 3.4
    label = f"Predicted change of loss against {len(refits.actual)} real refits: close to the diagonal where they agree"
    draw = partial(plots.refit_agreement, refits.predicted, refits.actual, first_order=refits.first_order)
    yield "refits", label, draw, 4.0


def _score_figures(audit: Audit) -> Iterator[Drawing]:
    regression = audit.source.vocabulary is None
    names = ["given_label", "suggested_label"] if regression else ["loo_margin"]
    rows = _thinned(audit, ["kind", "cooks_distance", "logit_variance", *names])
    kinds = rows["kind"].to_pylist()
    label = "Cook's distance of every kind as a histogram"
    yield "scores", label, partial(plots.score_distribution, rows["cooks_distance"], kinds), 3.4
    if not regression:
        label = "Logit variance against leave-one-out margin, by kind"
        yield "kinds", label, partial(plots.kinds_map, rows["logit_variance"], rows["loo_margin"], kinds), 3.4
        return
    for j, name in enumerate(audit.source.targets[:TARGETS]):
        given, predicted = (_output(rows[side], j) for side in names)
        label = f"Leave-one-out prediction of {name} against the given value"
        yield f"target-{j}", label, partial(plots.given_against_predicted, given, predicted, kinds), 3.4


def _output(column: pa.ChunkedArray, j: int) -> pa.ChunkedArray:
    return pc.list_element(column, j) if pa.types.is_nested(column.type) else column


def _class_figures(audit: Audit) -> Iterator[Drawing]:
    info, suspects = audit.info, _suspects(audit)
    if not info["confusion"]:
        return
    rows = {name: of for name, (_, of) in suspects.items()}
    height = 1.0 + 0.3 * min(len(suspects), 16)
    counts = {name: count for name, (count, _) in suspects.items()}
    yield "classes", "Suspects of every class", partial(plots.class_bars, counts, rows), height
    label = "Suspects by given and suggested label"
    yield "confusion", label, partial(plots.confusion_pairs, info["confusion"]), height


def _suspects(audit: Audit) -> dict[str, tuple[int, int]]:
    """Class → its suspects and its rows, most suspects first; nothing for a regression."""
    counts: Counter[str] = Counter()
    for given, _, count in audit.info["confusion"]:
        counts[str(given)] += count
    rows = zip(map(str, audit.source.vocabulary or ()), audit.info["class_rows"], strict=True)
    found = {name: (counts[name], of) for name, of in rows}
    return dict(sorted(found.items(), key=lambda item: -item[1][0]))


def _thinned(audit: Audit, columns: list[str]) -> pa.Table:
    """These columns of at most `DRAWN` rows, every k-th of the audit."""
    step, start, parts = math.ceil(audit.info["rows"] / DRAWN), 0, list[pa.RecordBatch]()
    for batch in audit.dataset.to_batches(columns=columns):
        parts.append(batch.take(pa.array(np.arange(-start % step, batch.num_rows, step))))
        start += batch.num_rows
    return pa.Table.from_batches(parts, audit.dataset.schema.empty_table().select(columns).schema)


def _samples(audit: Audit, per_kind: int) -> dict[str, list[dict[str, Any]]]:
    """kind → its strongest samples: the row of the table, why, and the neighbours, with what shows them."""
    tops = {kind: audit.top(per_kind, kind=kind).to_pylist() for kind in _shown_kinds(audit)}
    rows = [row for top in tops.values() for row in top]
    explained = audit.explain_many([row["id"] for row in rows], top_k=NEIGHBOURS) if rows else []
    for row, explanation in zip(rows, explained, strict=True):
        row |= {"supporters": explanation.supporters.to_pylist(), "opponents": explanation.opponents.to_pylist()}
        row["why"] = explanation.sentence
    sized = [(row, LARGE) for row in rows]
    sized += [(other, SMALL) for row in rows for other in (*row["supporters"], *row["opponents"])]
    seen = shown(audit, [(sample["row"], pixels) for sample, pixels in sized])
    for sample, pixels in sized:
        sample |= seen[sample["row"], pixels]
    return tops


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("assay"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"sig": _significant, "signed": _signed, "label": _label, "percent": _percent}
    return environment


def _significant(value: Any, digits: int = 3) -> str:
    """1,797, 12.3, 0.00123, 4.1e-07; a dash for what is not a number."""
    if isinstance(value, int):
        return f"{value:,}"
    if not isinstance(value, float):
        return _label(value)
    if not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:.{digits}g}"


def _signed(value: float) -> str:
    return ("−" if value < 0 else "+") + _significant(abs(value), 2)


def _percent(share: float) -> str:
    """95 %, 7.3 %, < 0.1 %: two digits that say something."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.0f} %"


def _label(value: Any) -> str:
    """A class name or a target as a person writes it, long ones cut."""
    if isinstance(value, list):
        return ", ".join(_label(one) for one in value)
    text = _significant(value) if isinstance(value, float) else str(value)
    return text if len(text) <= 160 else text[:159] + "…"
