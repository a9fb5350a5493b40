"""SIGKILL in a burst of decisions: every acknowledged one is there after a restart, and the log is whole."""

import http.client
import shutil
import sqlite3
import threading
from pathlib import Path

from serving import evil_audit, serving

__all__ = ["evil_audit"]


def test_no_acknowledged_decision_is_lost(evil_audit: Path, tmp_path: Path):
    audit = Path(shutil.copytree(evil_audit, tmp_path / "audit", ignore=shutil.ignore_patterns("decisions*")))
    acknowledged: list[tuple[int, str]] = []
    enough = threading.Event()

    def burst(first: int) -> None:
        actions = ("keep", "drop", "collect", "relabel")
        for k in range(10_000):
            row = first + 2 * (k % 120)
            try:
                answer = server.post("/api/decide", {"rows": [row], "action": actions[k % 4]})
            except (OSError, http.client.HTTPException):
                return
            assert answer.status == 200
            acknowledged.append((answer.json["seq"], f"{row} {actions[k % 4]}"))
            if len(acknowledged) > 60:
                enough.set()

    with serving(audit) as server:
        threads = [threading.Thread(target=burst, args=(first,)) for first in (0, 1)]
        for thread in threads:
            thread.start()
        assert enough.wait(60)
        server.kill()
        for thread in threads:
            thread.join()
    with serving(audit) as again:
        assert again.get("/api/recent").json[0]["seq"] >= max(seq for seq, _ in acknowledged)
        with sqlite3.connect(f"file:{audit / 'decisions.sqlite'}?mode=ro", uri=True) as connection:
            log = dict(connection.execute("SELECT seq, row || ' ' || action FROM decisions"))
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()
        assert {seq: log.get(seq) for seq, _ in acknowledged} == dict(acknowledged)
        assert len(log) <= len(acknowledged) + 2, "at most one of each connection was on its way"
        row, action = log[max(log)].split()
        assert again.get(f"/api/sample/{row}").json["decision"]["action"] == action
