"""What was decided in every format of an export; the originals stay, changed data and foreign folders are refused."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from audits import TARGETS, WORDS, N, X, Y, contents, write
from PIL import Image

import assay
from assay.auditing.decided import DECIDED
from assay.auditing.export import ADDED
from assay.auditing.export_folders import folder_names
from assay.auditing.exporting import FORMATS
from assay.decisions.store import Decisions, Subject
from assay.review.boxes import regions

LOG = ("seq", "at", "who", "row", "id", "region", "box", "action", "label", "stood", "note", "batch", "undoes")


def act(audit: assay.Audit, action: str, *rows: int, label: Any = None, **more: Any) -> None:
    """An expert's decision on some rows."""
    store = Decisions.open(audit.path, fingerprint=audit.info["fingerprint"])
    text = None if label is None else json.dumps(label)
    store.decide("ann", [Subject(row, str(row)) for row in rows], action, [text] * len(rows), **more)
    store.close()


def on_region(audit: assay.Audit, action: str) -> dict[str, Any]:
    found = regions(audit)["regions"][0]
    store = Decisions.open(audit.path, fingerprint=audit.info["fingerprint"])
    store.decide("bob", [Subject(region=found["region"], box=found["box"])], action, [None], note="here")
    store.close()
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A table and its audit."""
    folder = tmp_path_factory.mktemp("made")
    path = write(folder / "a.parquet", note=np.array(["=1+1"] * N))
    return path, assay.audit(path, features="f*", l2=1e-2, out=folder / "audit", shard_rows=70).path


@pytest.fixture
def audit(made: tuple[Path, Path], tmp_path: Path) -> Iterator[assay.Audit]:
    """A copy of it, without decisions; the table is the same afterwards."""
    before = made[0].read_bytes()
    yield assay.load(made[1]).save(tmp_path / "audit")
    assert made[0].read_bytes() == before


def test_every_row_stays_with_what_was_decided_beside_it(audit, tmp_path):
    act(audit, "relabel", 3, label="cat", note="=cmd()")
    act(audit, "drop", 5, 100)
    act(audit, "keep", 7)
    table = pq.read_table(audit.export(tmp_path / "out.parquet"))
    assert table.schema.names == [
        "f0",
        "f1",
        "f2",
        "f3",
        "y",
        "note",
        *ADDED,
        *(f"assay_{c}" if c == "note" else c for c in DECIDED),
    ]
    frame = table.to_pandas()
    assert len(frame) == N
    assert frame["decision"].dropna().to_dict() == {3: "relabel", 5: "drop", 7: "keep", 100: "drop"}
    assert np.flatnonzero(~frame["kept"]).tolist() == [5, 100]
    expected = Y.copy()
    expected[3] = "cat"
    assert frame["corrected_label"].tolist() == expected.tolist()
    assert frame["y"].tolist() == Y.tolist(), "the given labels stay"
    assert frame["decided_by"].dropna().unique().tolist() == ["ann"]
    with open(audit.export(tmp_path / "out.csv"), newline="", encoding="utf-8") as file:
        row = list(csv.DictReader(file))[3]
    assert (row["corrected_label"], row["assay_note"], row["note"]) == ("cat", "'=cmd()", "'=1+1")


def test_an_undone_or_disputed_decision(audit, tmp_path):
    act(audit, "drop", 1, 2)
    store = Decisions.open(audit.path, fingerprint=audit.info["fingerprint"])
    store.decide("bob", [Subject(2)], "relabel", ['"bee"'])
    store.undo("ann")
    store.decide("cid", [Subject(2)], "keep", [None])
    store.close()
    frame = pq.read_table(audit.export(tmp_path / "out.parquet")).to_pandas()
    assert frame["decision"].dropna().to_dict() == {2: "keep"}
    assert np.flatnonzero(frame["conflict"]).tolist() == [2]


def test_a_region_is_filtered_out_but_for_what_is_kept(audit, tmp_path):
    region = on_region(audit, "filter")
    box = json.loads(region["box"])
    low = np.array([-np.inf if v is None else v for v in box["low"]])
    high = np.array([np.inf if v is None else v for v in box["high"]])
    inside = np.flatnonzero(((low <= X) & (high >= X)).all(1))
    assert len(inside) == region["rows"] > 3
    act(audit, "keep", int(inside[0]))
    act(audit, "unsure", int(inside[1]))
    frame = pq.read_table(audit.export(tmp_path / "out.parquet")).to_pandas()
    assert np.flatnonzero(~frame["kept"]).tolist() == inside[1:].tolist()
    store = Decisions.open(audit.path, fingerprint=audit.info["fingerprint"])
    store.undo("bob")
    store.close()
    assert pq.read_table(audit.export(tmp_path / "again.parquet"))["kept"].to_pylist() == [True] * N


def test_a_subset_is_used_by_its_three_lines(audit, tmp_path, monkeypatch):
    act(audit, "relabel", 3, label="cat")
    act(audit, "drop", 5, 100)
    folder = audit.export(tmp_path / "cleaned", format="subset")
    names = (folder / "classes.txt").read_text().split()
    assert names == sorted(WORDS)
    monkeypatch.chdir(tmp_path)
    import torch

    train_set = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.zeros(N))
    scope: dict[str, Any] = {"np": np, "torch": torch, "train_set": train_set}
    exec((folder / "README.txt").read_text(), scope)
    kept = [row for row in range(N) if row not in (5, 100)]
    expected = ["cat" if row == 3 else Y[row] for row in kept]
    assert [names[label] for _, label in scope["cleaned"]] == expected
    assert all(torch.equal(x, torch.from_numpy(X[row])) for (x, _), row in zip(scope["cleaned"], kept, strict=True))
    assert len((folder / "README.txt").read_text().splitlines()) == 3


def test_labels_that_are_numbers_stay_numbers(tmp_path):
    audit = assay.audit((X, 10 * np.arange(N) % 30), l2=1e-2, out=tmp_path / "audit")
    act(audit, "relabel", 4, label="20")
    folder = audit.export(tmp_path / "subset", format="subset")
    labels = np.load(folder / "labels.npy")
    assert (labels.dtype, labels[4], labels[5]) == (np.int64, 20, 20)
    assert not (folder / "classes.txt").exists()
    exported = pq.read_table(audit.export(tmp_path / "out.parquet"))
    assert exported["corrected_label"].to_pylist()[4] == 20


@pytest.mark.parametrize("width", [1, 2])
def test_a_corrected_target(width, tmp_path):
    audit = assay.audit((X, TARGETS[:, :width]), l2=1e-2, out=tmp_path / "audit")
    act(audit, "relabel", 4, label=7.5 if width == 1 else [7.5, 1.0])
    exported = pq.read_table(audit.export(tmp_path / "out.parquet"))
    found = exported["corrected_label"].to_pylist()
    assert found[4] == (7.5 if width == 1 else [7.5, 1.0])
    np.testing.assert_array_equal(found[5], TARGETS[5, 0] if width == 1 else TARGETS[5])
    labels = np.load(audit.export(tmp_path / "subset", format="subset") / "labels.npy")
    np.testing.assert_array_equal(labels[4], 7.5 if width == 1 else [7.5, 1.0])
    with pytest.raises(assay.ShapeError, match="this audit is a regression"):
        audit.export(tmp_path / "images", format="images")


def test_images_go_to_the_folder_of_their_corrected_label(digits_audit, tmp_path):
    audit = digits_audit.save(tmp_path / "audit")
    given = audit.table["given_label"].to_pylist()
    act(audit, "relabel", 0, label=str((given[0] + 1) % 10))
    act(audit, "drop", 1)
    folder = audit.export(tmp_path / "images", format="images")
    with open(folder / "labels.csv", newline="") as file:
        listed = list(csv.DictReader(file))
    assert [int(row["row"]) for row in listed] == [0, *range(2, 1_797)]
    assert listed[0]["file"] == f"{(given[0] + 1) % 10}/00000000.png"
    assert (listed[0]["given_label"], listed[0]["label"]) == (str(given[0]), str((given[0] + 1) % 10))
    for row in listed[:20]:
        with (
            Image.open(folder / row["file"]) as image,
            Image.open(io.BytesIO(audit.source.render([int(row["row"])])[0].png)) as right,
        ):
            assert np.array_equal(np.asarray(image), np.asarray(right))
    assert len(list(folder.rglob("*.png"))) == 1_796


def test_samples_without_pictures_have_no_image_folder(audit, tmp_path):
    with pytest.raises(assay.ShapeError, match="no pictures"):
        audit.export(tmp_path / "images", format="images")
    assert not (tmp_path / "images").exists()


def test_class_names_are_no_paths():
    names = ["../../etc", "/abs", "a/b", "a\\b", "..", ".", "", "CON:", "ok", "OK", "x" * 300, "labels.csv", ".hidden"]
    found = folder_names(names)
    assert len({name.lower() for name in found.values()}) == len(names)
    for name in found.values():
        assert not set(name) & set("/\\:\0")
        assert name[0] != "."
        assert 0 < len(name) < 100


def test_the_log_is_every_decision(audit, tmp_path):
    act(audit, "relabel", 3, label="cat", note="ü")
    on_region(audit, "collect")
    store = Decisions.open(audit.path, fingerprint=audit.info["fingerprint"])
    store.undo("ann")
    store.close()
    lines = (audit.export(tmp_path / "log.jsonl")).read_text(encoding="utf-8").splitlines()
    first, second, third = map(json.loads, lines)
    assert set(LOG) < set(first)
    assert (first["row"], first["label"], first["note"], first["undone"]) == (3, "cat", "ü", True)
    assert (second["who"], second["box"]["columns"]) == ("bob", ["f0", "f1", "f2", "f3"])
    assert (third["action"], third["undoes"]) == ("undo", 1)


def test_needs_are_what_experts_want_more_of(audit, tmp_path):
    with pytest.raises(assay.ShapeError, match="nothing is decided yet"):
        audit.export(tmp_path / "needs.csv", format="needs")
    act(audit, "drop", 1)
    with pytest.raises(assay.ShapeError, match='as "collect"'):
        audit.export(tmp_path / "needs.csv", format="needs")
    act(audit, "collect", 9, note="=more")
    region = on_region(audit, "collect")
    frame = pd.read_csv(audit.export(tmp_path / "needs.csv", format="needs"), dtype={"id": str})
    assert frame["what"].tolist() == ["region", "sample"]
    assert (frame["rule"][0], frame["points"][0]) == (region["rule"], region["rows"])
    assert frame["f0_low"][1] == frame["f0_high"][1] == X[9, 0]
    assert (frame["id"][1], frame["label"][1], frame["note"][1]) == ("9", Y[9], "'=more")
    box = json.loads(region["box"])
    assert frame["f1_low"][0] == (-np.inf if box["low"][1] is None else box["low"][1])


def test_nothing_decided_exports_as_before(audit, tmp_path):
    assert pq.read_table(audit.export(tmp_path / "out.parquet")).schema.names[-len(ADDED) :] == list(ADDED)
    assert (audit.export(tmp_path / "log.jsonl")).read_text() == ""
    folder = audit.export(tmp_path / "subset", format="subset")
    assert np.load(folder / "keep_idx.npy").tolist() == list(range(N))


def test_nothing_is_overwritten_unasked(audit, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(assay.OutputError, match="not empty"):
            audit.export(tmp_path / "mine", format="subset", overwrite=overwrite)
    assert contents(tmp_path / "mine")["thesis.txt"]
    audit.export(tmp_path / "out", format="subset")
    with pytest.raises(assay.OutputError, match=r"not empty; .*--overwrite"):
        audit.export(tmp_path / "out", format="subset")
    audit.export(tmp_path / "out", format="subset", overwrite=True)
    for name, format in (("audit/x", "subset"), ("audit", "subset"), ("none/x", "images"), ("audit/x.jsonl", "jsonl")):
        with pytest.raises(assay.OutputError):
            audit.export(tmp_path / name, format=format, overwrite=True)
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with pytest.raises(assay.OutputError, match="no plain folder"):
        audit.export(tmp_path / "link", format="subset", overwrite=True)
    with pytest.raises(assay.ShapeError, match=f"not one of {', '.join(FORMATS)}"):
        audit.export(tmp_path / "x", format="excel")
    with pytest.raises(assay.OutputError, match="say its format"):
        audit.export(tmp_path / "x")
    with pytest.raises(assay.OutputError, match=r"ends in \.csv; name a file that ends in \.parquet"):
        audit.export(tmp_path / "x.csv", format="parquet")


def test_the_folder_of_the_data_is_never_replaced(audit, made, tmp_path):
    (made[0].parent / "keep_idx.npy").touch()
    with pytest.raises(assay.OutputError, match=r"holds the audited data|not empty|lies in the audit"):
        audit.export(made[0].parent, format="subset", overwrite=True)
    (made[0].parent / "keep_idx.npy").unlink()


def test_changed_data_are_refused_in_every_format(tmp_path):
    path = write(tmp_path / "a.parquet")
    audit = assay.audit(path, features="f*", l2=1e-2, out=tmp_path / "audit")
    act(audit, "collect", 1)
    write(path, y=Y[::-1])
    for format, suffix in FORMATS.items():
        with pytest.raises(assay.SourceError, match="no longer those that were audited"):
            assay.load(audit.path).export(tmp_path / f"out{suffix}", format=format)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.parquet", "audit"]


def test_a_failed_folder_leaves_nothing(audit, tmp_path, monkeypatch):
    monkeypatch.setattr(np, "save", lambda *_: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(assay.OutputError, match="no space"):
        audit.export(tmp_path / "out", format="subset")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["audit"]


def test_an_export_is_audited_and_exported_again(tmp_path):
    """Each time with columns of its own: two of one name cannot be read."""
    path = write(tmp_path / "0.parquet", decision=np.array(["mine"] * N), assay_decision=np.array(["old"] * N))
    audit = assay.audit(path, features="f*", label="y", l2=1e-2, out=tmp_path / "audit")
    act(audit, "drop", 3)
    table = pq.read_table(audit.export(tmp_path / "1.parquet"))
    assert [table[name][3].as_py() for name in ("decision", "assay_decision", "assay_assay_decision")] == [
        "mine", "old", "drop"
    ]  # fmt: skip
