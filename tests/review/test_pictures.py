"""Thumbnails: many in one answer, and one that cannot be read costs no other."""

from base64 import b64decode
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from serving import Serving, audited, digits_server, evil_audit, evil_server

import assay
from assay.review import tasks
from assay.review.tasks import pictures

__all__ = ["digits_server", "evil_audit", "evil_server"]


def test_thumbnails_come_many_in_one_answer(digits_server: Serving, evil_server: Serving):
    found: dict[str, str] = {}
    for _ in range(3):  # one at least comes each time: the page asks again where they take long
        if missing := [row for row in ("5", "1044", "7") if row not in found]:
            found |= digits_server.get(f"/api/pictures?rows={','.join([*missing, missing[0]])}").json["pictures"]
    assert list(found) == ["5", "1044", "7"]
    for row, address in found.items():
        kind, _, data = address.partition(",")
        assert kind == "data:image/png;base64"
        assert b64decode(data) == digits_server.get(f"/media/{row}?size=96").body
    assert evil_server.get("/api/pictures?rows=0,1").json == {"pictures": {"0": None, "1": None}}


def test_a_picture_that_cannot_be_read_costs_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 12)) * 1.0
    data = tmp_path / "data"
    data.mkdir()
    for name, part in (("a", pixels[:20]), ("b", pixels[20:])):
        pq.write_table(pa.table({"e": list(part), "label": np.arange(20) % 2}), data / f"{name}.parquet")
    audit = assay.load(audited(data, tmp_path / "audit", embedding="e", image_shape=(3, 4)))
    whole = pictures(audit, [0, 1, 25], 96)
    assert list(whole) == [0, 1, 25]
    assert all(png is not None and png.startswith(b"\x89PNG") for png in whole.values())
    (data / "b.parquet").unlink()
    assert pictures(audit, [0, 25, 1, 99], 96) == {0: whole[0], 25: None, 1: whole[1], 99: None}
    monkeypatch.setattr(tasks, "PATIENCE", 0.0)
    assert list(pictures(audit, [*range(20)], 96)) == [0], "one at least, or the page would ask for ever"
