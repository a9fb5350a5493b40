"""What an audit found, printed; and how many of the planted label errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..auditing.result import Audit


def print_summary(
    result: Audit, *, as_json: bool, found: dict[str, int] | None = None, page: Path | None = None
) -> None:
    """What was found, for people, or for programs as JSON; `found` of the planted flips, and where the report is."""
    if as_json:
        extra = {} if found is None else {"found": found, "report": str(page)}
        print(json.dumps({**result.summary(), **extra}, indent=2, default=str))
        return
    info = result.info
    print(f"audited   {info['rows']:,} samples, {info['family']} head, λ2 = {info['l2']:.3g}")
    kinds = ", ".join(
        f"{info['kinds'].get(kind, 0):,} {kind}" for kind in ("mislabeled", "under-represented", "boundary")
    )
    print(f"suspects  {kinds}")
    for pair in (info.get("mistaken") or [])[:6]:
        print(f"mistaken  about {pair['rate']:.1%} of {pair['true']} are labelled {pair['given']}")
    if trained := info.get("trained"):
        ratio = trained["gradient_norm"] / trained["gradient_scale"]
        print(f"network   its own head was at a gradient of {ratio:.1e} of its scale")
    print(f"trust     {result.trust.verdict.upper()}: {result.trust.reason}")
    if found is not None:
        print(
            f"planted   {found['found_in_first']} of {found['planted']} flipped labels stand among the first "
            f"{found['planted']} suspects, {found['found_in_twice']} among the first {2 * found['planted']}"
        )
    print(f"audit     {result.path}/")
    print(f"report    {page}" if page else f"next      assay report {result.path}")


def found_of(result: Audit, flipped: list[int]) -> dict[str, int]:
    """How many of the flipped rows are among the first suspects, and among twice as many."""
    planted = set(flipped)
    ranked = result.top(2 * len(planted), by="mislabeled_score")["row"].to_pylist()
    return {
        "planted": len(planted),
        "found_in_first": len(planted & set(ranked[: len(planted)])),
        "found_in_twice": len(planted & set(ranked)),
    }
