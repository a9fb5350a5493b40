"""The file `decisions.sqlite`: its tables, and whether a file that lies there is one of ours."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from ..errors import OutputError

APPLICATION = 0x41535941  # "ASYA" in the file's header: ours
VERSION = 1
ACTIONS = ("keep", "relabel", "drop", "collect", "unsure", "filter", "requeue", "undo")
_QUOTED = ", ".join(f"'{action}'" for action in ACTIONS)

TABLES = {
    "about": "CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
    "decisions": f"""CREATE TABLE decisions (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL CHECK (length(at) <= 40),
    who TEXT NOT NULL CHECK (length(who) BETWEEN 1 AND 60),
    row INTEGER CHECK (row >= 0),
    id TEXT,
    region TEXT CHECK (length(region) <= 64),
    box TEXT,
    action TEXT NOT NULL CHECK (action IN ({_QUOTED})),
    label TEXT,
    stood TEXT,
    note TEXT CHECK (length(note) <= 2000),
    batch INTEGER NOT NULL,
    undoes INTEGER,
    resolves INTEGER NOT NULL DEFAULT 0,
    CHECK ((row IS NULL) <> (region IS NULL))
) STRICT""",
    "standing": """CREATE TABLE standing (
    row INTEGER PRIMARY KEY,
    seq INTEGER,
    action TEXT NOT NULL,
    conflict INTEGER NOT NULL
) STRICT""",
    "acts": """CREATE TABLE acts (
    who TEXT NOT NULL,
    key TEXT NOT NULL CHECK (length(key) <= 64),
    batch INTEGER NOT NULL,
    PRIMARY KEY (who, key)
) STRICT, WITHOUT ROWID""",
    "keys": "CREATE TABLE keys (who TEXT PRIMARY KEY, keys TEXT NOT NULL) STRICT",
    "decisions_by_row": "CREATE INDEX decisions_by_row ON decisions (row, seq)",
    "decisions_by_region": "CREATE INDEX decisions_by_region ON decisions (region, seq)",
    "decisions_by_who": "CREATE INDEX decisions_by_who ON decisions (who, seq)",
    "decisions_by_batch": "CREATE INDEX decisions_by_batch ON decisions (batch)",
    "decisions_undone": "CREATE INDEX decisions_undone ON decisions (undoes) WHERE undoes IS NOT NULL",
    "decisions_stay": """CREATE TRIGGER decisions_stay BEFORE UPDATE ON decisions
BEGIN SELECT RAISE(ABORT, 'decisions are appended, never changed'); END""",
    "decisions_last": """CREATE TRIGGER decisions_last BEFORE DELETE ON decisions
BEGIN SELECT RAISE(ABORT, 'decisions are appended, never removed'); END""",
}
"""`decisions` is the log. `acts` knows an act that is sent a second time. `standing` is read from the log and may be
made anew: what holds for each row that was decided."""

MADE_BY_SQLITE = {"sqlite_sequence"}


def opened(path: Path, *, fingerprint: str, write: bool) -> sqlite3.Connection:
    """A connection to the decisions on data of this `fingerprint`; the file is made where there is none (`write`).

    Whatever is not exactly our own schema is refused before anything is read from it: a view or a trigger in a file
    from elsewhere would run. Raises `OutputError`.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise OutputError(f"{path.name} is no plain file; remove it, or restore the audit's own")
    connection: sqlite3.Connection | None = None
    try:
        made = not path.exists() or path.stat().st_size == 0
        connection = _connected(path, write=write)
        if made:
            _make(connection, fingerprint)
        _check(connection, path, fingerprint)
    except (sqlite3.Error, OutputError) as cause:
        if connection is not None:
            connection.close()
        if isinstance(cause, OutputError):
            raise
        if isinstance(cause, sqlite3.OperationalError):
            raise OutputError(f"{path.name} cannot be used ({cause}); make the audit's folder writable") from cause
        raise OutputError(f"{path.name} is damaged or no file of decisions ({cause}); restore it or move it") from cause
    return connection


def _connected(path: Path, *, write: bool) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={'rwc' if write else 'rw'}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=10)
    connection.row_factory = sqlite3.Row
    try:
        for setting in ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0", "cache_size=-8000"):
            connection.execute(f"PRAGMA {setting}")
        connection.execute("PRAGMA synchronous=FULL")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _make(connection: sqlite3.Connection, fingerprint: str) -> None:
    """All or nothing, so that two servers that start together make one file."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("BEGIN IMMEDIATE")
    if not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        for statement in TABLES.values():
            connection.execute(statement)
        connection.execute("INSERT INTO about VALUES ('fingerprint', ?)", (fingerprint,))
        connection.execute(f"PRAGMA application_id={APPLICATION}")
        connection.execute(f"PRAGMA user_version={VERSION}")
    connection.execute("COMMIT")


def _check(connection: sqlite3.Connection, path: Path, fingerprint: str) -> None:
    found = {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")}
    schema = {row["name"]: row["sql"] for row in connection.execute("SELECT name, sql FROM sqlite_schema")}
    own = {name: sql for name, sql in schema.items() if name not in MADE_BY_SQLITE and not _automatic(name)}
    if found != {"application_id": APPLICATION, "user_version": VERSION} or own != TABLES:
        raise OutputError(f"{path.name} is no file of decisions of this version of assay; move it elsewhere")
    state = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if state != "ok":
        raise OutputError(f"{path.name} is damaged ({state}); restore it from a copy")
    known = connection.execute("SELECT value FROM about WHERE name = 'fingerprint'").fetchone()
    if known is None or known["value"] != fingerprint:
        raise OutputError(f"{path.name} holds decisions on other data than this audit's; move it elsewhere")
    connection.execute("PRAGMA journal_mode=WAL")


def _automatic(name: str) -> bool:
    return name.startswith("sqlite_autoindex_")
