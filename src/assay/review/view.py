"""The queue with what was decided: items of a page, the filters of a query, the state of a sample."""

from __future__ import annotations

import json
import math
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..decisions.log import VERDICTS, Decision, Standing
from ..decisions.store import Decisions
from ..errors import ShapeError
from .columns import KINDS, Columns
from .queue import QUEUES, Filter, Place, Queue, Rows, page, place_at, ranks_of
from .shards import Shards

STATUSES = ("open", "done", *VERDICTS, "unsure", "conflict")
LIMIT = 200  # items of a page, at most


@dataclass(frozen=True)
class Stood:
    """Every sample that is not simply open: rows (sorted), what stands, where experts disagree."""

    rows: Rows
    actions: NDArray[Any]
    conflicts: NDArray[np.bool_]

    def having(self, status: str) -> Rows:
        """The rows of a status; "done" is any verdict."""
        if status == "conflict":
            return self.rows[self.conflicts]
        wanted = VERDICTS if status == "done" else (status,)
        return self.rows[np.isin(self.actions, wanted)]


class View:
    """What the server knows of an audit: shards, columns and decisions."""

    def __init__(self, shards: Shards, decisions: Decisions) -> None:
        self.shards, self.decisions = shards, decisions
        self.columns = Columns.of(shards)
        self._stood: tuple[tuple[int, int], Stood] | None = None
        self._lock = threading.Lock()

    def stood(self) -> Stood:
        """Read again only after something was decided, by whomever."""
        version = self.decisions.version()
        with self._lock:
            if self._stood is None or self._stood[0] != version:
                found = self.decisions.statuses()
                rows = np.array([row for row, _, _ in found], np.int64)
                actions = np.array([action for _, action, _ in found], np.str_)
                conflicts = np.array([conflict for _, _, conflict in found], np.bool_)
                self._stood = version, Stood(rows, actions, conflicts)
            return self._stood[1]

    def filter(
        self,
        queue: Queue,
        *,
        given: str | None = None,
        suggested: str | None = None,
        status: str | None = None,
        low: float | None = None,
        high: float | None = None,
    ) -> Filter:
        """The filter of a query; raises `ShapeError` for a class or a status that there is not."""
        if status is not None and status not in STATUSES:
            raise ShapeError(f"status={status!r} is not one of {', '.join(STATUSES)}")
        stood = self.stood()
        only = self._whole(queue).only
        without = None
        if status == "open":
            without = stood.rows[stood.actions != "open"]
        elif status is not None:
            named = stood.having(status)
            only = named if only is None else np.intersect1d(only, named)
        return Filter(self.code("given", given), self.code("suggested", suggested), low, high, only, without)

    def code(self, name: str, label: str | None) -> int | None:
        """A class by its name."""
        if label is None:
            return None
        if self.columns.classes is None or label not in self.columns.classes:
            raise ShapeError(f"{name}={label!r} is no class of this audit")
        return self.columns.classes.index(label)

    def page(
        self,
        queue: Queue,
        chosen: Filter,
        *,
        limit: int,
        after: Place | None = None,
        before: Place | None = None,
        rank: int | None = None,
        row: int | None = None,
    ) -> dict[str, Any]:
        """A page of items, with cursors to the pages beside it.

        From a `rank` of the whole queue or the place of a sample (`row`) on: these themselves if they pass the filters,
        else what comes next, and the end of the list where nothing does.
        """
        if rank is not None or row is not None:
            after = self._start(queue, rank, row)
        found = page(self.columns, queue, chosen, limit=limit, after=after, before=before)
        if (rank is not None or row is not None) and found.total and not found.places:
            found = page(self.columns, queue, chosen, limit=limit, before=_END)
        rows = [place.row for place in found.places]
        ranks = (
            [found.first + k for k in range(len(rows))] if self._is_whole(queue, chosen) else self.ranks(queue, rows)
        )
        return {
            "queue": queue.name,
            "score": queue.score,
            "total": found.total,
            "items": self.items(queue, rows, ranks),
            "next": cursor(found.places[-1]) if rows and found.first - 1 + len(rows) < found.total else None,
            "previous": cursor(found.places[0]) if rows and found.first > 1 else None,
        }

    def _start(self, queue: Queue, rank: int | None, row: int | None) -> Place:
        """The place in the queue's order after which a rank or a sample comes."""
        if row is not None:
            place = Place(float(self.columns.take(queue.score, [self.check_row(row)])[0]), row)
        else:
            place = place_at(self.columns, queue, self._whole(queue), rank or 1) or _END
        return Place(place.score, place.row - 1)

    def _whole(self, queue: Queue) -> Filter:
        """What lets all of the queue through."""
        if not queue.listed:
            return Filter()
        return Filter(only=self.stood().having("conflict" if queue.name == "conflicts" else "unsure"))

    def _is_whole(self, queue: Queue, chosen: Filter) -> bool:
        """Whether the filter leaves nothing of the queue out."""
        bounds = (chosen.given, chosen.suggested, chosen.low, chosen.high)
        if any(bound is not None for bound in bounds) or (chosen.without is not None and len(chosen.without)):
            return False
        whole = self._whole(queue).only
        return chosen.only is None or (whole is not None and len(whole) == len(chosen.only))

    def items(self, queue: Queue, rows: Sequence[int], ranks: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """What a list shows of samples, in the order of the rows; their `ranks` where they are known."""
        columns = self.columns
        stood = self.decisions.standing_of(rows)
        names = ("confidence", "kind", "cooks_distance", "held_out", queue.score)
        values = {name: columns.take(name, rows) for name in names}
        ids = [exact(id) for id in columns.ids(rows)]
        shown = zip(
            rows, ids, columns.labels("given_label", rows), columns.labels("suggested_label", rows), strict=True
        )
        return [
            {
                "row": row, "id": id, "rank": ranks[k] if ranks else None, "given": given, "suggested": suggested,
                "confidence": number(values["confidence"][k]), "kind": KINDS[values["kind"][k]],
                "score": number(values[queue.score][k]), "cooks_distance": number(values["cooks_distance"][k]),
                "held_out": bool(values["held_out"][k]), **state(stood.get(row)),
            }
            for k, (row, id, given, suggested) in enumerate(shown)
        ]  # fmt: skip

    def ranks(self, queue: Queue, rows: Sequence[int]) -> list[int]:
        """The ranks of samples in the whole queue."""
        return ranks_of(self.columns, queue, rows, self._whole(queue))

    def check_row(self, row: int) -> int:
        """The row, or `ShapeError` where there is none such."""
        if not 0 <= row < len(self.shards):
            raise ShapeError(f"row {row} is not there; the audit has rows 0 to {len(self.shards) - 1}")
        return row


def state(standing: Standing | None) -> dict[str, Any]:
    """What stands for a sample: its decision and whether experts disagree."""
    if standing is None:
        return {"decision": None, "conflict": False, "seq": None}
    decision = standing.decision
    told = None if decision is None else {
        "action": decision.action, "label": spoken(decision.label), "who": decision.who, "when": decision.at,
        "note": decision.note,
    }  # fmt: skip
    return {"decision": told, "conflict": standing.conflict, "seq": None if decision is None else decision.seq}


def told(decision: Decision) -> dict[str, Any]:
    """A row of the log for the page."""
    return {
        "seq": decision.seq, "row": decision.row, "id": decision.id, "region": decision.region,
        "action": decision.action, "label": spoken(decision.label),
        "from": None if decision.stood is None else json.loads(decision.stood), "who": decision.who,
        "when": decision.at, "undone": decision.undone, "undoes": decision.undoes, "group": decision.batch,
        "note": decision.note, "resolves": decision.resolves,
    }  # fmt: skip


def spoken(label: str | None) -> Any:
    """A label as it was before it became JSON in the log."""
    return None if label is None else json.loads(label)


def number(value: float) -> float | None:
    """JSON has neither NaN nor infinity."""
    return value if np.isfinite(value) else None


def exact(id: Any) -> Any:
    """An id as JavaScript reads it: it has no whole numbers beyond 2**53."""
    return str(id) if isinstance(id, int) and abs(id) > 2**53 else id


def cursor(place: Place) -> str:
    """A place as text that comes back in a query: the score's exact digits and the row."""
    return f"{place.score.hex()}_{place.row}"


def place_of(text: str) -> Place:
    """The reverse of `cursor`; raises `ShapeError`."""
    found = _CURSOR.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        return Place(float.fromhex(found[1]), int(found[2]))
    except (ValueError, OverflowError) as cause:
        raise ShapeError("the cursor is none of ours; take it from `next` or `previous`") from cause


_END = Place(-math.inf, 2**62)  # behind all samples
_CURSOR = re.compile(r"(-?(?:0x[01]\.[0-9a-f]{1,13}p[+-][0-9]{1,4}|inf))_([0-9]{1,18})")


def queue_of(name: str | None) -> Queue:
    """A queue by name; raises `ShapeError`."""
    if name is not None and name not in QUEUES:
        raise ShapeError(f"queue={name!r} is not one of {', '.join(QUEUES)}")
    return QUEUES[name or "all"]
