"""The queue against pandas: filters, order, pages both ways, ranks, confusion; bad cursors and folders are refused."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from made import CLASSES, shards, table

import assay
from assay.decisions.store import Decisions, Subject
from assay.review import columns as flat
from assay.review.columns import Columns
from assay.review.queue import QUEUES, Filter, Place, confusion, page, place_at, ranks_of
from assay.review.shards import Shards
from assay.review.view import View, cursor, place_of

FILTERS = [
    {},
    {"given": 1},
    {"suggested": 2, "low": 0.3},
    {"given": 0, "suggested": 1, "high": 0.8},
    {"low": 0.2, "high": 0.2},
    {"low": 2.0},
]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Columns.chunks, "__defaults__", (177,))


@pytest.fixture
def columns(tmp_path: Path) -> Columns:
    return Columns.of(Shards.open(shards(tmp_path / "audit")))


def expected(folder: Path, name: str, chosen: dict) -> list[int]:
    """The rows of a queue in order, by pandas."""
    queue, frame = QUEUES[name], table(folder)
    if queue.kind is not None:
        frame = frame[frame["kind"] == name]
    for key, column in (("given", "given_label"), ("suggested", "suggested_label")):
        if key in chosen:
            frame = frame[frame[column] == CLASSES[chosen[key]]]
    score = frame[queue.score]
    frame = frame[(score >= chosen.get("low", -1)) & (score <= chosen.get("high", 9))]
    return frame.sort_values([queue.score, "row"], ascending=[False, True])["row"].tolist()


@pytest.mark.parametrize("name", ["all", "mislabeled", "under-represented", "boundary"])
@pytest.mark.parametrize("chosen", FILTERS, ids=str)
def test_pages_both_ways_and_ranks_are_those_of_sorting(name: str, chosen: dict, columns: Columns, tmp_path: Path):
    queue, right = QUEUES[name], expected(tmp_path / "audit", name, chosen)
    forth: list[Place] = []
    while len(forth) < len(right):
        found = page(columns, queue, Filter(**chosen), limit=37, after=forth[-1] if forth else None)
        assert found.first == len(forth) + 1
        assert found.total == len(right)
        assert found.places
        forth += found.places
    assert [place.row for place in forth] == right
    back = page(columns, queue, Filter(**chosen), limit=37, after=forth[-1] if forth else None)
    assert back.places == []
    for k in range(len(right), 0, -37):
        before = None if k == len(right) else forth[k]
        if before is not None:
            found = page(columns, queue, Filter(**chosen), limit=37, before=before)
            assert [place.row for place in found.places] == right[max(0, k - 37) : k]
            assert found.first == max(0, k - 37) + 1
    for rank in {1, 2, len(right) // 2, len(right)} - {0}:
        if rank <= len(right):
            assert place_at(columns, queue, Filter(**chosen), rank) == forth[rank - 1]
            start = Place(forth[rank - 1].score, forth[rank - 1].row - 1)
            found = page(columns, queue, Filter(**chosen), limit=3, after=start)
            assert [place.row for place in found.places] == right[rank - 1 : rank + 2]
            assert found.first == rank
    assert place_at(columns, queue, Filter(**chosen), len(right) + 1) is None
    assert place_at(columns, queue, Filter(**chosen), 0) is None


def test_ranks_of_scores_of_any_size_and_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("assay.review.queue.FEW", 4)
    rng = np.random.default_rng(1)
    scores = rng.normal(size=500) * 10.0 ** rng.integers(-300, 300, 500)
    scores[:40] = [0.0, -0.0] * 20
    scores[40:60] = 7.0
    scores[60:63] = np.nan
    columns = Columns.of(Shards.open(shards(tmp_path, 500, cooks_distance=scores)))
    order = np.lexsort((np.arange(500), -np.nan_to_num(scores, nan=-np.inf)))
    for rank in (1, 100, 250, 260, 270, 450, 497, 498, 500):
        found = place_at(columns, QUEUES["all"], Filter(), rank)
        assert found is not None
        assert found.row == order[rank - 1]
        assert ranks_of(columns, QUEUES["all"], [found.row, 0], Filter())[0] == rank
        assert place_of(cursor(found)) == found


def test_rows_are_kept_and_left_out(columns: Columns, tmp_path: Path):
    right = expected(tmp_path / "audit", "all", {})
    some = np.array(sorted(right[10:20]))
    found = page(columns, QUEUES["all"], Filter(without=some), limit=15)
    assert [place.row for place in found.places] == right[:10] + right[20:25]
    assert found.total == 990
    assert [place.row for place in page(columns, QUEUES["all"], Filter(only=some), limit=99).places] == right[10:20]
    assert page(columns, QUEUES["all"], Filter(only=np.empty(0, np.int64)), limit=9).total == 0


def test_confusion_is_that_of_pandas(columns: Columns, tmp_path: Path):
    frame = table(tmp_path / "audit")
    for name in ("all", "boundary"):
        chosen = frame if name == "all" else frame[frame["kind"] == name]
        pairs = chosen[chosen["given_label"] != chosen["suggested_label"]].groupby(["given_label", "suggested_label"])
        found = confusion(columns, QUEUES[name], Filter())
        assert {(CLASSES[a], CLASSES[b]): count for (a, b), count in found.items()} == pairs.size().to_dict()


@pytest.mark.parametrize("ids", [None, "text"])
def test_items_are_the_rows_of_the_shards(ids, tmp_path: Path):
    names = None if ids is None else [f"ü{'x' * (k % 5)}{k}" if k else "" for k in range(1_000)]
    folder = shards(tmp_path / "audit", ids=names)
    decisions = Decisions.open(folder, fingerprint="data")
    view, frame = View(Shards.open(folder), decisions), table(folder)
    for item in view.items(QUEUES["boundary"], [999, 0, 5, 300, 299]):
        row = frame.loc[item["row"]]
        assert item["id"] == row["id"]
        assert (item["given"], item["suggested"]) == (row["given_label"], row["suggested_label"])
        assert item["score"] == row["boundary_score"]
        assert (item["kind"], item["held_out"]) == (row["kind"], row["held_out"])
    decisions.close()


@pytest.mark.parametrize("width", [1, 2])
def test_targets_of_a_regression(width: int, tmp_path: Path):
    values = np.random.default_rng(0).normal(size=(1_000, width))
    flat = pa.array(values.reshape(-1))
    labels = flat if width == 1 else pa.FixedSizeListArray.from_arrays(flat, width)
    folder = shards(tmp_path / "audit", given_label=labels, suggested_label=labels)
    columns = Columns.of(Shards.open(folder))
    assert columns.classes is None
    wanted = values[[7, 900]].tolist()
    assert columns.labels("given_label", [7, 900]) == (wanted if width > 1 else [value[0] for value in wanted])


def test_status_filters_follow_the_decisions(tmp_path: Path):
    folder = shards(tmp_path / "audit")
    decisions = Decisions.open(folder, fingerprint="data")
    view, queue = View(Shards.open(folder), decisions), QUEUES["all"]

    def total(status: str | None, name: str = "all") -> int:
        return view.page(QUEUES[name], view.filter(QUEUES[name], status=status), limit=5)["total"]

    decisions.decide("ann", [Subject(row) for row in (3, 4, 5)], "keep", [None] * 3)
    decisions.decide("bob", [Subject(4)], "drop", [None])
    decisions.decide("bob", [Subject(9)], "unsure", [None])
    assert (total("open"), total("done"), total("keep"), total("drop"), total(None)) == (996, 3, 2, 1, 1_000)
    assert (total("unsure"), total("conflict"), total(None, "conflicts"), total(None, "unsure")) == (1, 1, 1, 1)
    item = view.page(queue, view.filter(queue, status="drop"), limit=5)["items"][0]
    assert (item["row"], item["conflict"], item["decision"]["who"]) == (4, True, "bob")
    decisions.undo("bob")
    decisions.undo("bob")
    assert (total("open"), total("conflict")) == (997, 0)
    for bad in ({"status": "mine"}, {"given": "dog"}, {"suggested": "'; DROP TABLE decisions; --"}):
        with pytest.raises(assay.ShapeError):
            view.filter(queue, **bad)
    decisions.close()


def test_flat_columns_are_written_once_and_anew_for_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = shards(tmp_path / "audit")
    Columns.of(Shards.open(folder))
    before = (folder / "queue" / "columns.json").stat().st_mtime_ns
    Columns.of(Shards.open(folder))
    assert (folder / "queue" / "columns.json").stat().st_mtime_ns == before
    (folder / "queue" / "kind").write_bytes(b"")
    assert Columns.of(Shards.open(folder)).take("kind", [999])
    shards(tmp_path / "audit", seed=1)
    again = Columns.of(Shards.open(folder))
    assert again.take("confidence", [5]) == [table(folder)["confidence"][5]]
    assert sorted(path.name for path in folder.iterdir()) == ["audit.json", "queue", "scores"]
    monkeypatch.setattr(flat, "_fill", lambda *_: (_ for _ in ()).throw(OSError("full")))
    shards(tmp_path / "audit", seed=2)
    with pytest.raises(assay.OutputError, match="cannot be written"):
        Columns.of(Shards.open(folder))


@pytest.mark.parametrize("text", ["", "x", "0x1p0", "nan_3", "0x1p0_x", "0x1p99999_3", "1_2_3", "0x1p0_" + "9" * 99])
def test_cursors_that_are_none_are_refused(text: str):
    with pytest.raises(assay.ShapeError, match="cursor"):
        place_of(text)


@pytest.mark.parametrize("name", ["../../secret.parquet", "/etc/passwd", "link.parquet"])
def test_an_audit_that_names_files_outside_is_refused(name: str, tmp_path: Path):
    folder = shards(tmp_path / "audit")
    (tmp_path / "secret.parquet").write_bytes((folder / "scores" / "part-00000.parquet").read_bytes())
    (folder / "scores" / "link.parquet").symlink_to(tmp_path / "secret.parquet")
    info = json.loads((folder / "audit.json").read_text())
    info["manifest"][0]["file"] = name
    (folder / "audit.json").write_text(json.dumps(info))
    with pytest.raises(assay.OutputError, match="lies outside of it"):
        Shards.open(folder)
    info["manifest"][0]["file"] = "part-00000.parquet"
    info["source"]["store"]["files"] = ["{audit}/scores/" + name.lstrip("/")]
    if not name.startswith("/"):
        (folder / "audit.json").write_text(json.dumps(info))
        with pytest.raises(assay.OutputError, match="lies outside of it"):
            Shards.open(folder)


@pytest.mark.parametrize("text", ["{", "[]", '{"manifest": 3}', "null"])
def test_a_damaged_audit_is_refused(text: str, tmp_path: Path):
    with pytest.raises(assay.OutputError, match="holds no finished audit"):
        Shards.open(tmp_path)
    (tmp_path / "audit.json").write_text(text)
    with pytest.raises(assay.OutputError, match=r"audit\.json is damaged"):
        Shards.open(tmp_path)
