"""Which samples come next: filtered, ranked by a score, a page at a time after any place.

Nothing is sorted. A page is the best few below a cursor, found in one pass over the flat columns with a chunk of them
in memory, so memory does not grow with the number of rows; the sample at a rank is found by counting (radix selection).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .columns import KINDS, Columns

Rows = NDArray[np.int64]
FEW = 4_096  # samples that are sorted at once


class Place(NamedTuple):
    """Where a sample stands in a queue: higher scores first, ties in the order of the source."""

    score: float
    row: int


@dataclass(frozen=True)
class Queue:
    """A ranking by the column `score`: of all samples, of those of one `kind`, or of those that the log names."""

    name: str
    title: str
    score: str
    kind: int | None = None
    listed: bool = False


QUEUES = {
    "all": Queue("all", "all", "cooks_distance"),
    "mislabeled": Queue("mislabeled", "mislabeled", "mislabeled_score", KINDS.index("mislabeled")),
    "under-represented": Queue(
        "under-represented", "under-represented", "under_represented_score", KINDS.index("under-represented")
    ),
    "boundary": Queue("boundary", "boundary", "boundary_score", KINDS.index("boundary")),
    "conflicts": Queue("conflicts", "conflicts", "cooks_distance", listed=True),
    "unsure": Queue("unsure", "unsure", "cooks_distance", listed=True),
}


@dataclass(frozen=True)
class Filter:
    """What a sample must be to be shown: label codes, bounds of the score, rows (sorted) to keep or leave out."""

    given: int | None = None
    suggested: int | None = None
    low: float | None = None
    high: float | None = None
    only: Rows | None = None
    without: Rows | None = None


class Page(NamedTuple):
    """Some places in order, how many the filter lets through, and the rank (from 1) of the first one."""

    places: list[Place]
    total: int
    first: int


class _Chunk(NamedTuple):
    scores: NDArray[np.float64]
    rows: Rows


def page(
    columns: Columns,
    queue: Queue,
    chosen: Filter,
    *,
    limit: int,
    after: Place | None = None,
    before: Place | None = None,
) -> Page:
    """The `limit` best places after a place, or the last ones before one."""
    total = ahead = 0
    best = _Chunk(np.empty(0), np.empty(0, np.int64))
    for chunk in _passing(columns, queue, chosen):
        total += len(chunk.rows)
        if before is not None:
            inside = _comes_before(chunk, before)
            ahead += int(inside.sum())
        elif after is not None:
            inside = _comes_after(chunk, after)
            ahead += len(inside) - int(inside.sum())
        else:
            inside = np.ones(len(chunk.rows), bool)
        best = _best(best, _Chunk(chunk.scores[inside], chunk.rows[inside]), limit, last=before is not None)
    places = [Place(*pair) for pair in zip(best.scores.tolist(), best.rows.tolist(), strict=True)]
    return Page(places, total, ahead - len(places) + 1 if before is not None else ahead + 1)


def place_at(columns: Columns, queue: Queue, chosen: Filter, rank: int) -> Place | None:
    """The sample at a rank (from 1) among those that pass; None beyond the last.

    Radix selection: the order of float64 is that of their bits (negative ones flipped). Sixteen bits at a time are
    counted until the samples that share them are few enough to sort.
    """
    if rank < 1:
        return None
    prefix, known, left = 0, 0, rank
    while True:
        counts = np.zeros(1 << 16, np.int64)
        for chunk in _passing(columns, queue, chosen):
            keys = _keys(chunk.scores)
            keys = keys[(keys >> np.uint64(64 - known)) == prefix] if known else keys
            digits = (keys >> np.uint64(48 - known)) & np.uint64(0xFFFF)
            counts += np.bincount(digits.astype(np.int64), minlength=1 << 16)
        above = np.concatenate([[0], np.cumsum(counts[::-1])])
        if left > above[-1]:
            return None
        j = int(np.searchsorted(above, left, side="left")) - 1
        left -= int(above[j])
        prefix, known = (prefix << 16) | (0xFFFF - j), known + 16
        if known == 64 or counts[0xFFFF - j] <= FEW:
            return _among(columns, queue, chosen, prefix, known, left)


def _among(columns: Columns, queue: Queue, chosen: Filter, prefix: int, known: int, rank: int) -> Place:
    """The sample at a rank among those whose first `known` bits are `prefix`: few, or all of one score."""
    best = _Chunk(np.empty(0), np.empty(0, np.int64))
    for chunk in _passing(columns, queue, chosen):
        same = (_keys(chunk.scores) >> np.uint64(64 - known)) == prefix
        scores, rows = chunk.scores[same], chunk.rows[same]
        if known < 64:
            best = _best(best, _Chunk(scores, rows), rank, last=False)
        elif rank <= len(rows):
            return Place(float(scores[rank - 1]), int(rows[rank - 1]))
        else:
            rank -= len(rows)
    return Place(float(best.scores[-1]), int(best.rows[-1]))


def ranks_of(columns: Columns, queue: Queue, rows: Sequence[int], chosen: Filter) -> list[int]:
    """The rank (from 1) of each of these samples among those that pass, or where it would stand."""
    if not rows:
        return []
    scores = np.array(columns.take(queue.score, rows), np.float64)
    own = np.array(rows, np.int64)
    order = np.lexsort((own, -scores))
    places = _Chunk(scores[order], own[order])
    ahead = np.zeros(len(rows) + 1, np.int64)  # of the samples, by how many of the places stand ahead of them
    for chunk in _passing(columns, queue, chosen):
        ahead[0] += int((chunk.scores > places.scores[0]).sum())
        near = (chunk.scores <= places.scores[0]) & (chunk.scores >= places.scores[-1])
        ahead += np.bincount(_places_ahead(_Chunk(chunk.scores[near], chunk.rows[near]), places), minlength=len(ahead))
    ranks = np.empty(len(rows), np.int64)
    ranks[order] = 1 + np.cumsum(ahead)[:-1]
    return ranks.tolist()


def _places_ahead(chunk: _Chunk, places: _Chunk) -> Rows:
    """How many of the places, in order, stand at or ahead of each sample."""
    first = np.searchsorted(-places.scores, -chunk.scores, side="left")
    last = np.searchsorted(-places.scores, -chunk.scores, side="right")
    found = first.copy()
    tied = np.flatnonzero(last > first)
    for a in np.unique(first[tied]):
        same = tied[first[tied] == a]
        found[same] = a + np.searchsorted(places.rows[a : last[same[0]]], chunk.rows[same], side="right")
    return found


def confusion(columns: Columns, queue: Queue, chosen: Filter) -> Counter[tuple[int, int]]:
    """How many samples that pass have each pair of given and suggested class, where these differ."""
    size = len(columns.classes or ())
    found: Counter[tuple[int, int]] = Counter()
    for chunk, more in _passing_with(columns, queue, chosen, ("given_label", "suggested_label")):
        pairs = more["given_label"].astype(np.int64) * size + more["suggested_label"]
        values, counts = np.unique(pairs[more["given_label"] != more["suggested_label"]], return_counts=True)
        for pair, count in zip(values.tolist(), counts.tolist(), strict=True):
            found[divmod(pair, size)] += count
        del chunk
    return found


def belongs(columns: Columns, queue: Queue, rows: Rows) -> NDArray[np.bool_]:
    """Which of these rows are of the queue's kind."""
    if queue.kind is None or not len(rows):
        return np.ones(len(rows), bool)
    return np.array(columns.take("kind", rows.tolist())) == queue.kind


def _passing(columns: Columns, queue: Queue, chosen: Filter) -> Iterator[_Chunk]:
    for chunk, _ in _passing_with(columns, queue, chosen, ()):
        yield chunk


def _passing_with(
    columns: Columns, queue: Queue, chosen: Filter, more: Sequence[str]
) -> Iterator[tuple[_Chunk, dict[str, NDArray[Any]]]]:
    """The samples that pass, chunk by chunk in the order of the source, with further columns of theirs."""
    tests = {"kind": queue.kind, "given_label": chosen.given, "suggested_label": chosen.suggested}
    asked = {name: value for name, value in tests.items() if value is not None}
    for first, values in columns.chunks(list(dict.fromkeys([queue.score, *asked, *more]))):
        scores = values[queue.score]
        passes = np.ones(len(scores), bool)
        for name, value in asked.items():
            passes &= values[name] == value
        if chosen.low is not None:
            passes &= scores >= chosen.low
        if chosen.high is not None:
            passes &= scores <= chosen.high
        if chosen.without is not None:
            passes[_within(chosen.without, first, len(scores))] = False
        if chosen.only is not None:
            kept = np.zeros(len(scores), bool)
            kept[_within(chosen.only, first, len(scores))] = True
            passes &= kept
        where = np.flatnonzero(passes)
        yield _Chunk(scores[where], where + first), {name: values[name][where] for name in more}


def _within(rows: Rows, first: int, size: int) -> Rows:
    """Those of sorted rows that lie in a chunk, counted from its beginning."""
    a, b = np.searchsorted(rows, [first, first + size])
    return rows[a:b] - first


def _comes_before(chunk: _Chunk, place: Place) -> NDArray[np.bool_]:
    return (chunk.scores > place.score) | ((chunk.scores == place.score) & (chunk.rows < place.row))


def _comes_after(chunk: _Chunk, place: Place) -> NDArray[np.bool_]:
    return (chunk.scores < place.score) | ((chunk.scores == place.score) & (chunk.rows > place.row))


def _best(held: _Chunk, new: _Chunk, limit: int, *, last: bool) -> _Chunk:
    """The first (or the last) `limit` of both in the order of the queue."""
    scores, rows = new
    if len(scores) > 4 * limit:  # only what can be among them is sorted
        edge = np.partition(scores, limit - 1 if last else len(scores) - limit)[limit - 1 if last else -limit]
        near = scores <= edge if last else scores >= edge
        scores, rows = scores[near], rows[near]
    scores, rows = np.concatenate([held.scores, scores]), np.concatenate([held.rows, rows])
    order = np.lexsort((rows, -scores))
    order = order[-limit:] if last else order[:limit]
    return _Chunk(scores[order], rows[order])


def _keys(scores: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Unsigned numbers in the order of the scores."""
    bits = (scores + 0.0).view(np.uint64)  # −0 is 0
    return np.where(bits >> np.uint64(63), ~bits, bits | np.uint64(1 << 63))
