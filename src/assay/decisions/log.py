"""One decision, and what stands after a series of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

VERDICTS = ("keep", "relabel", "drop", "collect")  # settle a sample; "unsure" does not
OPINIONS = (*VERDICTS, "filter")  # of which two that differ are a conflict; "filter" is of regions
FINDS = ("relabel", "drop", "collect")  # a verdict by which looking at the sample was worth it


@dataclass(frozen=True)
class Decision:
    """A row of the log. `label` is the new label of a relabel, `stood` what held before, `batch` one act of one user,
    `undone` whether that act was taken back, `resolves` whether it settles a conflict."""

    seq: int
    at: str
    who: str
    row: int | None
    id: str | None
    region: str | None
    box: str | None
    action: str
    label: str | None
    stood: str | None
    note: str | None
    batch: int
    undoes: int | None
    resolves: bool
    undone: bool = False

    @classmethod
    def of(cls, row: Mapping[str, Any], *, undone: bool = False) -> Decision:
        values: dict[str, Any] = {name: row[name] for name in _NAMES}
        values["resolves"] = bool(values["resolves"])
        return cls(**values, undone=undone)


_NAMES = tuple(name for name in Decision.__dataclass_fields__ if name != "undone")


@dataclass(frozen=True)
class Standing:
    """What holds for a sample: the latest decision (None: open), and whether two experts disagree about it."""

    decision: Decision | None
    conflict: bool

    @property
    def status(self) -> str:
        return "open" if self.decision is None else self.decision.action


def standing(history: Iterable[Decision]) -> Standing:
    """What stands after all decisions on one sample (or region), oldest first; undone ones do not count.

    A `requeue` opens the sample again, and what was said before it counts no more. Two experts disagree where the
    latest verdicts of two of them differ, counted from the last decision that `resolves`; being unsure is no verdict.
    """
    latest: Decision | None = None
    verdicts: dict[str, tuple[str, str | None]] = {}
    for decision in history:
        if decision.undone or decision.action == "undo":
            continue
        if decision.action == "requeue" or decision.resolves:
            verdicts = {}
        latest = None if decision.action == "requeue" else decision
        if decision.action in OPINIONS:
            verdicts[decision.who] = (decision.action, decision.label)
        elif decision.action == "unsure":
            verdicts.pop(decision.who, None)
    return Standing(latest, len(set(verdicts.values())) > 1)
