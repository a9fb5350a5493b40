"""What is sent a second time is done once; a list begins at any sample."""

import pytest

from assay.decisions.store import Decisions, Subject


@pytest.fixture
def decisions(tmp_path):
    store = Decisions.open(tmp_path, fingerprint="f")
    yield store
    store.close()


def test_an_act_sent_twice_is_one(decisions):
    subjects = [Subject(3, "a"), Subject(5, "b")]
    first = decisions.decide("Ann", subjects, "keep", [None, None], key="k1")
    again = decisions.decide("Ann", subjects, "keep", [None, None], key="k1")
    assert [one.seq for one in again] == [one.seq for one in first]
    assert len(decisions.log()) == 2
    assert len(decisions.decide("Bob", subjects, "drop", [None, None], key="k1")) == 2  # his own key
    assert len(decisions.log()) == 4


def test_an_undo_sent_twice_takes_back_one_act(decisions):
    for row in (3, 5):
        decisions.decide("Ann", [Subject(row, str(row))], "keep", [None], key=f"k{row}")
    for _ in range(2):
        assert [one.row for one in decisions.undo("Ann", key="u1")] == [5]
    assert [one.row for one in decisions.undo("Ann", key="u2")] == [3]
    assert decisions.undo("Ann", key="u3") == []
    assert decisions.statuses() == []
