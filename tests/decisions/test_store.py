"""The log of decisions: appended, undone by appending, never changed, by several experts at once."""

import json
import sqlite3
import threading
from pathlib import Path

import pytest

import assay
from assay.decisions.store import FILE, Decisions, Subject


@pytest.fixture
def store(tmp_path: Path):
    opened = Decisions.open(tmp_path, fingerprint="data")
    yield opened
    opened.close()


def act(store: Decisions, who: str, action: str, *rows: int, label: str | None = None, **more):
    return store.decide(who, [Subject(row, f"id{row}") for row in rows], action, [label] * len(rows), **more)


def statuses(store: Decisions) -> dict[int, str]:
    return {row: action for row, action, _ in store.statuses()}


def conflicts(store: Decisions) -> list[int]:
    return [row for row, _, conflict in store.statuses() if conflict]


def test_a_decision_says_who_when_what_and_from_what(store):
    act(store, "ann", "keep", 3)
    second = act(store, "bob", "relabel", 3, label='"cat"', note="a cat")[0]
    assert (second.who, second.row, second.id, second.action, second.label) == ("bob", 3, "id3", "relabel", '"cat"')
    assert json.loads(second.stood or "") == {"seq": 1, "action": "keep", "label": None, "who": "ann"}
    assert second.at.endswith("+00:00")
    assert [one.seq for one in store.history(3)] == [1, 2]


def test_undo_is_unlimited_a_user_and_an_act_at_a_time(store):
    act(store, "ann", "keep", 1)
    act(store, "ann", "drop", 2, 3, 4)
    act(store, "bob", "drop", 1)
    act(store, "ann", "relabel", 1, label='"cat"')
    assert statuses(store) == {1: "relabel", 2: "drop", 3: "drop", 4: "drop"}
    assert [one.row for one in store.undo("ann")] == [1]
    assert statuses(store)[1] == "drop", "bob's stands again"
    assert [one.row for one in store.undo("ann")] == [2, 3, 4]
    assert statuses(store) == {1: "drop"}
    assert [one.row for one in store.undo("ann")] == [1]
    assert store.undo("ann") == []
    assert statuses(store) == {1: "drop"}
    assert [one.row for one in store.undo("bob")] == [1]
    assert statuses(store) == {}
    assert len(store.log()) == 12, "six decisions and six that take them back: nothing is overwritten"


def test_a_decision_after_an_undo_is_undone_first(store):
    act(store, "ann", "keep", 1)
    store.undo("ann")
    act(store, "ann", "drop", 1)
    store.undo("ann")
    assert store.undo("ann") == []
    assert [one.undone for one in store.recent("ann")] == [True, True]


def test_experts_who_disagree_are_a_conflict_until_it_is_resolved(store):
    act(store, "ann", "keep", 1)
    act(store, "bob", "keep", 1)
    assert conflicts(store) == []
    act(store, "cid", "relabel", 1, label='"cat"')
    assert conflicts(store) == [1]
    assert statuses(store) == {1: "relabel"}
    act(store, "ann", "keep", 1, resolves=True)
    assert conflicts(store) == []
    assert statuses(store) == {1: "keep"}
    store.undo("ann")
    assert conflicts(store) == [1], "what resolved it is taken back"


def test_two_new_labels_are_a_conflict_and_doubt_is_none(store):
    act(store, "ann", "relabel", 1, label='"cat"')
    act(store, "bob", "relabel", 1, label='"dog"')
    act(store, "ann", "keep", 2)
    act(store, "bob", "unsure", 2)
    assert conflicts(store) == [1]
    assert statuses(store)[2] == "unsure"
    act(store, "bob", "relabel", 1, label='"cat"')
    assert conflicts(store) == [], "bob came round"


def test_requeue_opens_a_sample_again(store):
    act(store, "ann", "keep", 1)
    act(store, "bob", "drop", 1)
    act(store, "ann", "requeue", 1)
    assert statuses(store) == {}
    act(store, "ann", "drop", 1)
    assert conflicts(store) == []
    store.undo("ann")
    store.undo("ann")
    assert conflicts(store) == [1]


def test_regions_are_decided_on_in_the_same_log(store):
    box = json.dumps({"columns": ["a"], "low": [0], "high": [None], "rule": "a ≥ 0", "rows": 9})
    store.decide("ann", [Subject(region="r1", box=box)], "filter", [None])
    store.decide("bob", [Subject(region="r1", box=box)], "collect", [None])
    assert store.regions()["r1"].status == "collect"
    store.undo("bob")
    assert store.regions()["r1"].status == "filter"
    assert store.statuses() == []


def test_the_log_cannot_be_changed(store, tmp_path):
    act(store, "ann", "keep", 1)
    other = sqlite3.connect(tmp_path / FILE)
    for statement in ("UPDATE decisions SET who = 'bob'", "DELETE FROM decisions"):
        with pytest.raises(sqlite3.IntegrityError, match="decisions are appended"):
            other.execute(statement)
    other.close()


def test_what_is_no_action_is_refused_whole(store):
    act(store, "ann", "keep", 1)
    with pytest.raises(sqlite3.IntegrityError):
        act(store, "ann", "explode", 2)
    with pytest.raises(sqlite3.IntegrityError):
        act(store, "x" * 61, "keep", 2)
    assert statuses(store) == {1: "keep"}


def test_several_servers_write_one_file(store, tmp_path):
    def work(name: str) -> None:
        own = Decisions.open(tmp_path, fingerprint="data")
        for row in range(20):
            act(own, name, "keep", row)
        own.close()

    before = store.version()
    threads = [threading.Thread(target=work, args=(name,)) for name in ("ann", "bob", "cid")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.log()) == 60
    assert len({one.batch for one in store.log()}) == 60
    assert store.version() != before
    assert statuses(store) == dict.fromkeys(range(20), "keep")


def test_what_stands_is_read_from_the_log_at_the_start(store, tmp_path):
    act(store, "ann", "keep", *range(700))
    with sqlite3.connect(tmp_path / FILE) as other:
        other.execute("UPDATE standing SET action = 'drop'")
    other.close()
    again = Decisions.open(tmp_path, fingerprint="data")
    assert set(statuses(again).values()) == {"keep"}
    again.close()


def test_keys_are_a_users_own(store):
    store.set_keys("ann", {"keep": "y"})
    store.set_keys("ann", {"keep": "x"})
    assert store.keys("ann") == {"keep": "x"}
    assert store.keys("bob") == {}


def test_nothing_decided_is_no_file(tmp_path):
    assert Decisions.existing(tmp_path, fingerprint="data") is None
    assert not list(tmp_path.iterdir())


def craft(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER mine AFTER INSERT ON decisions BEGIN DELETE FROM about; END",
        "CREATE VIEW mine AS SELECT * FROM decisions",
        "CREATE TABLE mine (a)",
        "DROP TRIGGER decisions_stay",
        "ALTER TABLE about ADD COLUMN a TEXT",
        "PRAGMA application_id = 1",
        "PRAGMA user_version = 99",
    ],
)
def test_a_crafted_file_is_refused(statement, tmp_path):
    Decisions.open(tmp_path, fingerprint="data").close()
    craft(tmp_path / FILE, statement)
    for opening in (Decisions.open, Decisions.existing):
        with pytest.raises(assay.OutputError, match=r"decisions\.sqlite is no file of decisions"):
            opening(tmp_path, fingerprint="data")


def test_another_file_is_refused_and_left_as_it_is(tmp_path):
    craft(tmp_path / FILE, "CREATE TABLE decisions (a)")
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(assay.OutputError, match="no file of decisions"):
        Decisions.open(tmp_path, fingerprint="data")
    assert (tmp_path / FILE).read_bytes() == before


@pytest.mark.parametrize("damage", ["text", "cut", "scribbled"])
def test_a_damaged_file_is_refused(damage, tmp_path):
    store = Decisions.open(tmp_path, fingerprint="data")
    act(store, "ann", "keep", *range(3_000))
    store.close()
    whole = (tmp_path / FILE).read_bytes()
    middle = len(whole) // 2
    scribbled = whole[:middle] + b"\xff" * 8_192 + whole[middle + 8_192 :]
    (tmp_path / FILE).write_bytes({"text": b"no database" * 999, "cut": whole[:middle], "scribbled": scribbled}[damage])
    with pytest.raises(assay.OutputError, match=r"decisions\.sqlite is damaged|is no file of decisions"):
        Decisions.open(tmp_path, fingerprint="data")


def test_rows_that_break_the_rules_of_the_tables_are_refused(tmp_path):
    store = Decisions.open(tmp_path, fingerprint="data")
    act(store, "ann", "keep", 1)
    store.close()
    craft(tmp_path / FILE, "PRAGMA ignore_check_constraints = ON", "UPDATE standing SET row = 2",
          "INSERT INTO decisions (at, who, row, action, batch) VALUES ('', '', -5, 'evil', 1)")  # fmt: skip
    with pytest.raises(assay.OutputError, match="CHECK constraint failed"):
        Decisions.open(tmp_path, fingerprint="data")


def test_decisions_on_other_data_are_refused(tmp_path):
    Decisions.open(tmp_path, fingerprint="data").close()
    with pytest.raises(assay.OutputError, match="on other data"):
        Decisions.open(tmp_path, fingerprint="other data")


def test_a_link_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    Decisions.open(tmp_path / "elsewhere", fingerprint="data").close()
    (tmp_path / FILE).symlink_to(tmp_path / "elsewhere" / FILE)
    for opening in (Decisions.open, Decisions.existing):
        with pytest.raises(assay.OutputError, match="no plain file"):
            opening(tmp_path, fingerprint="data")


def test_experts_who_disagree_about_a_region_are_a_conflict(store):
    subject = Subject(region="r", box="{}")
    store.decide("ann", [subject], "filter", [None])
    store.decide("bob", [subject], "collect", [None])
    assert store.regions()["r"].conflict
    store.decide("bob", [subject], "filter", [None])
    assert not store.regions()["r"].conflict


def test_only_a_conflict_that_is_there_is_resolved(store):
    """A range with one disputed sample resolves that one; what another expert says of the rest is not swept aside."""
    act(store, "ann", "keep", 1)
    act(store, "bob", "drop", 1)
    act(store, "bob", "drop", 2)
    made = act(store, "cid", "keep", 1, 2, resolves=True)
    assert [one.resolves for one in made] == [True, False]
    assert conflicts(store) == [2]


def test_a_file_that_was_replaced_takes_no_decision(store, tmp_path):
    """The audit was removed and made anew meanwhile: what is written to the old file is nowhere."""
    act(store, "ann", "keep", 1)
    (tmp_path / FILE).rename(tmp_path / "old.sqlite")
    with pytest.raises(assay.OutputError, match="start `assay review` again"):
        act(store, "ann", "keep", 2)
    Decisions.open(tmp_path, fingerprint="data").close()
    with pytest.raises(assay.OutputError, match="start `assay review` again"):
        act(store, "ann", "keep", 2)
