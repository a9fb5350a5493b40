"""Ranks do not move while one decides, and a list never seems empty because it began behind its last sample."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import shards, table

from assay.decisions.store import Decisions, Subject
from assay.review.queue import QUEUES
from assay.review.shards import Shards
from assay.review.view import View


@pytest.fixture
def view(tmp_path: Path):
    folder = shards(tmp_path / "audit")
    decisions = Decisions.open(folder, fingerprint="data")
    yield View(Shards.open(folder), decisions)
    decisions.close()


def order(folder: Path, name: str) -> list[int]:
    frame, queue = table(folder), QUEUES[name]
    frame = frame if queue.kind is None else frame[frame["kind"] == name]
    return frame.sort_values([queue.score, "row"], ascending=[False, True])["row"].tolist()


def asked(
    view: View, name: str, *, status: str | None = None, given: str | None = None, **where: Any
) -> dict[str, Any]:
    queue = QUEUES[name]
    return view.page(queue, view.filter(queue, status=status, given=given), **{"limit": 20, **where})


@pytest.mark.parametrize("name", ["all", "mislabeled"])
def test_a_rank_is_that_among_all_of_the_queue(name: str, view: View, tmp_path: Path):
    right = order(tmp_path / "audit", name)
    first = asked(view, name, status="open")
    assert [item["rank"] for item in first["items"]] == list(range(1, 21))
    rows = [item["row"] for item in first["items"][:15]]
    view.decisions.decide("ann", [Subject(row) for row in rows], "keep", [None] * 15)
    again = asked(view, name, status="open")
    assert [item["row"] for item in again["items"]] == right[15:35]
    assert [item["rank"] for item in again["items"]] == list(range(16, 36))
    of_class = asked(view, name, given="bee", status="open")
    assert [item["rank"] for item in of_class["items"]] == [1 + right.index(item["row"]) for item in of_class["items"]]


def test_a_rank_that_is_shown_is_the_one_that_is_gone_to(view: View, tmp_path: Path):
    right = order(tmp_path / "audit", "all")
    view.decisions.decide("ann", [Subject(row) for row in right[:50]], "keep", [None] * 50)
    found = asked(view, "all", status="open", rank=70)["items"]
    assert [(item["rank"], item["row"]) for item in found[:2]] == [(70, right[69]), (71, right[70])]
    within = asked(view, "all", status="open", rank=10)["items"]
    assert within[0]["rank"] == 51, "rank 10 is decided: the first open one after it"


def test_a_list_that_would_begin_behind_its_end_shows_its_end(view: View, tmp_path: Path):
    right = order(tmp_path / "audit", "boundary")
    view.decisions.decide("ann", [Subject(right[-1])], "keep", [None])
    found = asked(view, "boundary", status="open", row=right[-1])
    assert [item["row"] for item in found["items"]] == right[-21:-1]
    assert (found["next"], found["previous"] is None) == (None, False)
    beyond = asked(view, "boundary", rank=10**9)
    assert [item["row"] for item in beyond["items"]] == right[-20:]
    few = asked(view, "boundary", status="keep", rank=10**9)
    assert ([item["row"] for item in few["items"]], few["next"], few["previous"]) == ([right[-1]], None, None)


def test_the_page_before_knows_that_more_comes(view: View, tmp_path: Path):
    from assay.review.view import place_of

    right = order(tmp_path / "audit", "all")
    second = asked(view, "all", rank=11)
    before = asked(view, "all", before=place_of(second["previous"]))
    assert [item["row"] for item in before["items"]] == right[:10]
    after = asked(view, "all", after=place_of(before["next"]))
    assert [item["row"] for item in after["items"]] == right[10:30]


def test_a_sample_that_is_shown_alone_knows_its_rank(view: View, tmp_path: Path):
    right = order(tmp_path / "audit", "all")
    assert view.ranks(QUEUES["all"], [right[4], right[0], right[-1]]) == [5, 1, 1_000]


def test_ids_beyond_what_javascript_counts_to_are_text(tmp_path: Path):
    ids = np.arange(1_000) + 2**53 - 500
    folder = shards(tmp_path / "audit", ids=ids)
    decisions = Decisions.open(folder, fingerprint="data")
    found = View(Shards.open(folder), decisions).items(QUEUES["all"], [0, 999])
    assert [item["id"] for item in found] == [int(ids[0]), str(ids[999])]
    decisions.close()
