"""The log of decisions: appended to, read back, undone by appending."""

from __future__ import annotations

import datetime
import json
import sqlite3
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import OutputError
from .log import Decision, Standing, standing
from .schema import opened

FILE = "decisions.sqlite"
_LOG = "SELECT *, EXISTS (SELECT 1 FROM decisions u WHERE u.undoes = d.seq) AS undone FROM decisions d"
_UNDOABLE = (
    "SELECT batch FROM decisions d WHERE who = ? AND action <> 'undo' "
    "AND NOT EXISTS (SELECT 1 FROM decisions u WHERE u.undoes = d.seq) ORDER BY seq DESC LIMIT 1"
)
_INSERT = (
    "INSERT INTO decisions (at, who, row, id, region, box, action, label, stood, note, batch, undoes, resolves) "
    "VALUES (:at, :who, :row, :id, :region, :box, :action, :label, :stood, :note, :batch, :undoes, :resolves)"
)


@dataclass(frozen=True)
class Subject:
    """What is decided on: a sample by its row and id, or a region by its key and box (JSON)."""

    row: int | None = None
    id: str | None = None
    region: str | None = None
    box: str | None = None


class Decisions:
    """The decisions on one audit. Every write is on disk when its method returns (WAL, synchronous=FULL).

    Several threads, and several servers, may use one file; a write waits for the others.
    """

    def __init__(self, connection: sqlite3.Connection, file: Path) -> None:
        self._connection, self._file, self._inode = connection, file, _inode(file)
        self._lock = threading.RLock()

    @classmethod
    def open(cls, audit: Path, *, fingerprint: str) -> Decisions:
        """Those of the audit in this folder, made where there are none; raises `OutputError` (see `schema.opened`)."""
        store = cls(opened(audit / FILE, fingerprint=fingerprint, write=True), audit / FILE)
        store._mend()
        return store

    @classmethod
    def existing(cls, audit: Path, *, fingerprint: str) -> Decisions | None:
        """Those of the audit in this folder; None where nothing was decided."""
        if not (audit / FILE).exists() and not (audit / FILE).is_symlink():
            return None
        return cls(opened(audit / FILE, fingerprint=fingerprint, write=False), audit / FILE)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def decide(
        self,
        who: str,
        subjects: Sequence[Subject],
        action: str,
        labels: Sequence[str | None],
        *,
        note: str | None = None,
        resolves: bool = False,
        key: str | None = None,
    ) -> list[Decision]:
        """Appends one decision a subject as one act, and returns them in that order.

        An act whose `key` this user sent before was already made: its decisions are returned, none is appended. What
        `resolves` does so for the subjects that experts differ about at that moment, for no other.
        """
        with self._writing() as connection:
            if (batch := _batch_of(connection, who, key)) is not None:
                return _decisions(connection.execute(f"{_LOG} WHERE batch = ? ORDER BY seq", (batch,)))
            act = _Act(connection, who, note, resolves=resolves, key=key)
            made = [act.append(one, action, label) for one, label in zip(subjects, labels, strict=True)]
            self._restate(connection, [one.row for one in subjects if one.row is not None])
        return made

    def undo(self, who: str, *, key: str | None = None) -> list[Decision]:
        """Takes back this user's latest act that was not taken back yet, by appending; [] where there is none.

        Returns the decisions that count no more; of an undo whose `key` was sent before, those that it took back.
        """
        with self._writing() as connection:
            if (batch := _batch_of(connection, who, key)) is not None:
                taken = "seq IN (SELECT undoes FROM decisions WHERE batch = ?)"
                return _decisions(connection.execute(f"{_LOG} WHERE {taken} ORDER BY seq", (batch,)))
            last = connection.execute(_UNDOABLE, (who,)).fetchone()
            if last is None:
                return []
            undone = _decisions(connection.execute(f"{_LOG} WHERE batch = ? ORDER BY seq", (last["batch"],)))
            act = _Act(connection, who, None, resolves=False, key=key)
            for one in undone:
                act.append(Subject(one.row, one.id, one.region, one.box), "undo", None, undoes=one.seq)
            self._restate(connection, [one.row for one in undone if one.row is not None])
        return [replace(one, undone=True) for one in undone]

    def history(self, row: int) -> list[Decision]:
        """All decisions on a sample, oldest first."""
        return self._read(f"{_LOG} WHERE row = ? ORDER BY seq", (row,))

    def standing_of(self, rows: Sequence[int]) -> dict[int, Standing]:
        """What stands for those of these samples that were ever decided on."""
        found: dict[int, list[Decision]] = {}
        for start in range(0, len(rows), 500):
            some = [int(row) for row in rows[start : start + 500]]
            marks = ", ".join("?" * len(some))
            for one in self._read(f"{_LOG} WHERE row IN ({marks}) ORDER BY seq", some):
                found.setdefault(one.row or 0, []).append(one)
        return {row: standing(history) for row, history in found.items()}

    def regions(self) -> dict[str, Standing]:
        """What stands for each region that was ever decided on, by its key."""
        found: dict[str, list[Decision]] = {}
        for one in self._read(f"{_LOG} WHERE region IS NOT NULL ORDER BY seq", ()):
            found.setdefault(one.region or "", []).append(one)
        return {region: standing(history) for region, history in found.items()}

    def recent(self, who: str, count: int = 10) -> list[Decision]:
        """The user's last decisions, the latest first; undone ones say so."""
        return self._read(f"{_LOG} WHERE who = ? AND action <> 'undo' ORDER BY seq DESC LIMIT ?", (who, count))

    def log(self, after: int = 0, count: int = 10_000) -> list[Decision]:
        """A stretch of the whole log, oldest first."""
        return self._read(f"{_LOG} WHERE seq > ? ORDER BY seq LIMIT ?", (after, count))

    def statuses(self) -> list[tuple[int, str, bool]]:
        """(row, status, conflict) of every sample that is not simply open, by row."""
        with self._lock:
            rows = self._connection.execute("SELECT row, action, conflict FROM standing ORDER BY row").fetchall()
        return [(row["row"], row["action"], bool(row["conflict"])) for row in rows]

    def version(self) -> tuple[int, int]:
        """Changes whenever anybody decided anything."""
        with self._lock:
            outside = self._connection.execute("PRAGMA data_version").fetchone()[0]
            last = self._connection.execute("SELECT coalesce(max(seq), 0) FROM decisions").fetchone()[0]
        return outside, last

    def users(self) -> list[str]:
        with self._lock:
            rows = self._connection.execute("SELECT DISTINCT who FROM decisions ORDER BY who").fetchall()
        return [row["who"] for row in rows]

    def keys(self, who: str) -> dict[str, str]:
        """The user's own keys by action."""
        with self._lock:
            row = self._connection.execute("SELECT keys FROM keys WHERE who = ?", (who,)).fetchone()
        found: Any = {} if row is None else json.loads(row["keys"])
        return {str(name): str(key) for name, key in found.items()} if isinstance(found, dict) else {}

    def set_keys(self, who: str, keys: Mapping[str, str]) -> None:
        with self._writing() as connection:
            connection.execute("INSERT OR REPLACE INTO keys VALUES (?, ?)", (who, json.dumps(dict(keys))))

    @contextmanager
    def _writing(self) -> Generator[sqlite3.Connection]:
        """A transaction; raises `OutputError` where the file is not that of the audit any more."""
        with self._lock:
            if _inode(self._file) != self._inode:
                raise OutputError(
                    f"{self._file.name} was removed or replaced since the review began, and what is decided would be "
                    "lost; start `assay review` again"
                )
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def _read(self, query: str, arguments: Sequence[Any]) -> list[Decision]:
        with self._lock:
            return _decisions(self._connection.execute(query, arguments))

    def _restate(self, connection: sqlite3.Connection, rows: Sequence[int]) -> None:
        """What stands for these rows, noted anew."""
        now = self.standing_of(rows)
        for row in rows:
            found = now[row]
            if found.decision is None and not found.conflict:
                connection.execute("DELETE FROM standing WHERE row = ?", (row,))
            else:
                seq = None if found.decision is None else found.decision.seq
                values = (row, seq, found.status, int(found.conflict))
                connection.execute("INSERT OR REPLACE INTO standing VALUES (?, ?, ?, ?)", values)

    def _mend(self) -> None:
        """`standing` is what the log says, whoever wrote the file."""
        with self._writing() as connection:
            rows = [row[0] for row in connection.execute("SELECT DISTINCT row FROM decisions WHERE row IS NOT NULL")]
            connection.execute("DELETE FROM standing")
            for start in range(0, len(rows), 500):
                self._restate(connection, rows[start : start + 500])


class _Act:
    """One act of one user: its decisions share a number, by which they are undone together."""

    def __init__(
        self, connection: sqlite3.Connection, who: str, note: str | None, *, resolves: bool, key: str | None
    ) -> None:
        self.connection, self.resolves = connection, resolves
        batch = 1 + connection.execute("SELECT coalesce(max(batch), 0) FROM decisions").fetchone()[0]
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        self.shared = {"at": now, "who": who, "note": note, "batch": batch}
        if key is not None:
            connection.execute("INSERT INTO acts VALUES (?, ?, ?)", (who, key, batch))

    def append(self, subject: Subject, action: str, label: str | None, *, undoes: int | None = None) -> Decision:
        before = self._before(subject)
        values = {
            **self.shared, "resolves": int(self.resolves and before.conflict), "row": subject.row, "id": subject.id,
            "region": subject.region, "box": subject.box, "action": action, "label": label,
            "stood": _noted(before.decision), "undoes": undoes,
        }  # fmt: skip
        cursor = self.connection.execute(_INSERT, values)
        return Decision.of({**values, "seq": cursor.lastrowid})

    def _before(self, subject: Subject) -> Standing:
        """What held of the subject before."""
        name = "row" if subject.region is None else "region"
        history = self.connection.execute(f"{_LOG} WHERE {name} = ? ORDER BY seq", (getattr(subject, name),))
        return standing(_decisions(history))


def _noted(decision: Decision | None) -> str | None:
    """A decision that stood, as JSON."""
    if decision is None:
        return None
    label = None if decision.label is None else json.loads(decision.label)
    return json.dumps({"seq": decision.seq, "action": decision.action, "label": label, "who": decision.who})


def _inode(file: Path) -> tuple[int, int] | None:
    """Which file it is, whatever its name; None where there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _batch_of(connection: sqlite3.Connection, who: str, key: str | None) -> int | None:
    """The act that this user sent with this key; None where there is none."""
    found = connection.execute("SELECT batch FROM acts WHERE who = ? AND key = ?", (who, key)).fetchone()
    return None if found is None else found["batch"]


def _decisions(rows: sqlite3.Cursor) -> list[Decision]:
    return [Decision.of(dict(row), undone=bool(row["undone"])) for row in rows]
