"""How far a queue is reviewed and what is still to be found in it."""

from __future__ import annotations

import threading
from dataclasses import asdict
from typing import Any

import numpy as np

from ..decisions.log import FINDS, VERDICTS
from .queue import Filter, Queue, belongs, page
from .view import View
from .yield_curve import ENOUGH, NEXT, Expected, advice, curve, expected_finds, scale_of


class Progress:
    """Told anew only after something was decided."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._told: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def of(self, queue: Queue) -> dict[str, Any]:
        """Reviewed (any verdict), open, finds, the yield curve, the finds expected in the next, whether to stop."""
        version = self._view.decisions.version()
        with self._lock:
            if queue.name not in self._told or self._told[queue.name][0] != version:
                self._told[queue.name] = version, self._made(queue)
            return self._told[queue.name][1]

    def _made(self, queue: Queue) -> dict[str, Any]:
        view, stood = self._view, self._view.stood()
        settled = np.isin(stood.actions, VERDICTS)
        inside = belongs(view.columns, queue, stood.rows[settled])
        rows = stood.rows[settled][inside]
        found = np.isin(stood.actions[settled][inside], FINDS)
        coming = page(view.columns, queue, Filter(without=stood.rows[stood.actions != "open"]), limit=NEXT)
        scores = np.array(view.columns.take(queue.score, rows.tolist()), np.float64).reshape(-1)
        expected = self._expected(queue, rows, found, [place.row for place in coming.places])
        stop, sentence = advice(len(rows), expected)
        return {
            "queue": queue.name, "reviewed": len(rows), "open": coming.total, "finds": int(found.sum()),
            "yield": curve(scores, rows, found), "enough": len(rows) >= ENOUGH,
            "next": None if expected is None else asdict(expected),
            "stop": {"suggested": stop and not queue.listed, "sentence": "" if queue.listed else sentence},
        }  # fmt: skip

    def _expected(self, queue: Queue, rows: Any, found: Any, coming: list[int]) -> Expected | None:
        if len(rows) < ENOUGH or queue.listed or not coming:
            return None
        scale, columns = scale_of(queue.score), self._view.columns
        x = scale.x(np.array(columns.take(scale.column, rows.tolist()), np.float64))
        return expected_finds(x, found, scale.x(np.array(columns.take(scale.column, coming), np.float64)), scale.start)
