"""Cuts as pictures and a page to walk through them: `write_cuts(audit, folder, vary)`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jinja2

from .auditing.cuts import Cut
from .auditing.result import Audit
from .engine import atomic
from .errors import OutputError, ShapeError
from .plots import cut_figure

LISTED = 8  # samples told below a picture
FORMATS = ("png", "svg")


def write_cuts(
    audit: Audit,
    folder: str | Path,
    vary: Sequence[str],
    *,
    columns: Sequence[str] | None = None,
    top: int = 12,
    polar: bool = False,
    format: str = "png",
    overwrite: bool = False,
) -> Path:
    """Writes `index.html` and a picture a cut into a folder of their own; returns the page.

    `vary` are the two columns swept, `polar` draws them as distance and angle. Raises `ShapeError` (see `Audit.cuts`),
    `OutputError` where the folder holds something already (unless `overwrite`).
    """
    if format not in FORMATS:
        raise ShapeError(f"format={format!r} is not one of {', '.join(FORMATS)}")
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())) and not overwrite:
        raise OutputError(f"{folder} is not an empty folder; name another, or pass overwrite=True (--overwrite)")
    classes = audit.info["classes"]
    if classes is None:
        raise ShapeError("cuts show classes; this audit is a regression")
    cuts = audit.cuts(vary, columns, top=top)
    target.mkdir(parents=True, exist_ok=True)
    for old in (path for ending in FORMATS for path in target.glob(f"cut-*.{ending}")):
        old.unlink()
    told = [_told(cut, f"cut-{k:02d}.{format}") for k, cut in enumerate(cuts, 1)]
    for cut, one in zip(cuts, told, strict=True):
        with atomic(target / str(one["image"])) as temporary:
            cut_figure(cut, classes, polar=polar).savefig(temporary, dpi=120)
    loader = jinja2.PackageLoader("assay", "templates")
    page = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    share = sum(cut.influence_share for cut in cuts)
    text = page.get_template("cuts.html.j2").render(name=audit.path.name, vary=vary, cuts=told, share=share)
    with atomic(target / "index.html") as temporary:
        temporary.write_text(text, encoding="utf-8")
    return target / "index.html"


def _told(cut: Cut, image: str) -> dict[str, object]:
    a, b = cut.vary
    rows = [
        {
            "id": row["id"], "a": row[a], "b": row[b], "given": row["given_label"], "predicted": row["predicted_label"],
            "influence": row["cooks_distance"],
        }
        for row in cut.rows.slice(0, LISTED).to_pylist()
    ]  # fmt: skip
    return {"title": cut.title, "image": image, "rows": rows}
