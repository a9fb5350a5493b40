"""What can be asked of a finished audit: the top, ids, new samples; saved, moved, damaged."""

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from audits import CODES, KEYS, NEW, TARGETS, N, X, Y, contents, frame, numbers, write

import assay

SMALL = {"l2": 1e-2, "shard_rows": 100}


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> assay.Audit:
    folder = tmp_path_factory.mktemp("result")
    return assay.audit(write(folder / "a.parquet", note=KEYS), out=folder / "audit", **SMALL)


def test_the_top_is_sorted_and_ties_keep_the_order_of_the_source(audit: assay.Audit):
    table = audit.table
    for by in (None, "loo_loss", "mislabeled_score", "boundary_score", "leverage"):
        top = audit.top(20, by=by)
        values = numbers(table, by or "cooks_distance")
        assert top["row"].to_pylist() == np.argsort(-values, kind="stable")[:20].tolist()
    flat = assay.audit((np.repeat(X[:60], 2, axis=0), np.repeat(Y[:60], 2)), **SMALL)
    rows = flat.top(30)["row"].to_pylist()
    assert all(b == a + 1 for a, b in zip(rows[::2], rows[1::2], strict=True)), "twins tie"


def test_one_kind_is_sorted_by_its_own_score(digits_audit: assay.Audit):
    audit, table = digits_audit, digits_audit.table.to_pandas()
    for kind in ("mislabeled", "under-represented", "boundary"):
        score = f"{kind.replace('-', '_')}_score"
        mine = table[table.kind == kind].sort_values([score, "row"], ascending=[False, True])
        top = audit.top(1000, kind=kind)
        assert len(top) == audit.info["kinds"][kind] > 0
        assert top["row"].to_pylist() == mine["row"].tolist()
    both = audit.top(3, kind="mislabeled", by="leverage")
    expected = table[table.kind == "mislabeled"].sort_values("leverage", ascending=False)["row"].tolist()[:3]
    assert both["row"].to_pylist() == expected


def test_what_is_no_kind_or_score_is_refused(audit: assay.Audit):
    with pytest.raises(assay.ShapeError, match="kind='wrong' is not one of typical, mislabeled"):
        audit.top(kind="wrong")
    for by in ("nothing", "given_label", "kind", "row"):
        with pytest.raises(
            assay.ShapeError, match=f"by='{by}' is not a score; choose one of confidence, cooks_distance"
        ):
            audit.top(by=by)


@pytest.mark.parametrize("as_table", ["frame", "parquet", "arrays"])
def test_new_samples_are_scored_as_the_head_predicts(audit: assay.Audit, as_table: str, tmp_path: Path):
    labels = np.array(["cat", "ant", "ant", "bee", "cat", "bee", "ant"])
    columns = {"y": labels, **{f"f{j}": NEW[:, j] for j in (3, 1, 0, 2)}, "later": np.zeros(7)}
    path = tmp_path / "new.parquet"
    pd.DataFrame(columns).to_parquet(path)
    new = {"frame": pd.DataFrame(columns), "parquet": path, "arrays": (NEW, labels)}[as_table]
    scored = audit.score(new)
    assert scored.schema.equals(audit.table.schema)
    judge = audit.head if audit._judge is None else audit._judge[0]
    p = judge.probabilities(NEW).numpy()
    np.testing.assert_allclose(numbers(scored, "confidence"), p.max(1), rtol=1e-12)
    assert scored["suggested_label"].to_pylist() == np.array(["ant", "bee", "cat"])[p.argmax(1)].tolist()
    own = p[np.arange(7), np.searchsorted(["ant", "bee", "cat"], labels)]
    np.testing.assert_allclose(numbers(scored, "label_score"), own, rtol=1e-9)
    plain = audit.head.probabilities(NEW).numpy()[np.arange(7), np.searchsorted(["ant", "bee", "cat"], labels)]
    np.testing.assert_allclose(numbers(scored, "loss"), -np.log(plain), rtol=1e-9)
    assert numbers(scored, "loo_loss").tolist() == numbers(scored, "loss").tolist(), "nothing is left out"
    assert scored["id"].to_pylist() == list(range(7))


def test_samples_of_the_training_set_have_their_own_curvature_scores(audit: assay.Audit):
    scored = audit.score((X, Y))
    for name in ("cooks_distance", "leverage", "logit_variance", "loss"):
        np.testing.assert_allclose(numbers(scored, name), numbers(audit.table, name), rtol=1e-12)


def test_new_regression_samples():
    audit = assay.audit((X, TARGETS), **SMALL)
    scored = audit.score((NEW, np.zeros((7, 2))))
    predicted = audit.head.logits(NEW).numpy()
    np.testing.assert_allclose(np.array(scored["suggested_label"].to_pylist()), predicted, rtol=1e-12)
    np.testing.assert_allclose(numbers(scored, "loss"), (predicted**2).sum(1) / 2, rtol=1e-12)
    assert scored["kind"].to_pylist()[0] == "mislabeled"


def test_new_samples_need_no_old_data(tmp_path: Path):
    audit = assay.audit(write(tmp_path / "a.parquet"), out=tmp_path / "audit", **SMALL)
    (tmp_path / "a.parquet").unlink()
    assert len(assay.load(audit.path).score(pa.table(frame()))) == N


def test_new_samples_that_cannot_be_scored(audit: assay.Audit):
    labels = np.array(["ant"] * 6 + ["dog"])
    with pytest.raises(
        assay.SourceError, match=r"row 6: label 'dog' .*is not one of the 3 classes \('ant', 'bee', 'cat'\)"
    ):
        audit.score((NEW, labels))
    with pytest.raises(assay.ShapeError, match="3 feature columns; the head was made for 4"):
        audit.score((NEW[:, :3], Y[:7]))
    lacking = pd.DataFrame(frame()).drop(columns="f2")
    with pytest.raises(assay.SourceError, match=r"features='f2' matches no numeric column"):
        audit.score(lacking)
    with pytest.raises(assay.ShapeError, match=r"1 of the head's 4 columns are missing: 'f2'"):
        audit.score((lacking.drop(columns="y"), Y))
    with pytest.raises(assay.SourceError, match="row 2: feature 'x1' is nan"):
        audit.score((np.where(np.arange(28).reshape(7, 4) == 9, np.nan, NEW), Y[:7]))
    with pytest.raises(assay.SourceError, match="no column 'y' to take as label"):
        audit.score(pd.DataFrame(NEW, columns=["f0", "f1", "f2", "f3"]))


def test_what_is_saved_is_what_was(audit: assay.Audit, tmp_path: Path):
    saved = audit.save(tmp_path / "copy")
    assert contents(saved.path) == contents(audit.path)
    assert saved.table.equals(audit.table)
    assert saved.info == audit.info
    assert torch.equal(saved.head.V, audit.head.V)
    assert saved.explain(3).supporters.equals(audit.explain(3).supporters)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy"]
    with pytest.raises(assay.OutputError, match=r"copy holds a finished audit"):
        audit.save(tmp_path / "copy")


def test_data_from_memory_go_with_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Named relative to where it runs, and like a part of its own path."""
    (tmp_path / "audit-data").mkdir()
    write(tmp_path / "audit-data" / "audit.parquet")
    monkeypatch.chdir(tmp_path)
    for data, name in (((X, Y), "audit"), ("audit-data/audit.parquet", "data")):
        audit = assay.audit(data, out=name, **SMALL)
        before = audit.explain(3)
        shutil.move(name, tmp_path / f"moved-{name}")
        monkeypatch.chdir("/")
        moved = assay.load(tmp_path / f"moved-{name}")
        assert moved.explain(3).supporters.equals(before.supporters)
        monkeypatch.chdir(tmp_path)
    assert "{audit}/source/source.parquet" in (tmp_path / "moved-audit" / "audit.json").read_text()


def test_an_audit_in_a_temporary_folder_can_be_kept(tmp_path: Path):
    audit = assay.audit((X, Y), **SMALL)
    saved = audit.save(tmp_path / "deep" / "kept")
    del audit
    assert assay.load(saved.path).explain(0).id == 0


def test_damaged_audits_are_refused(audit: assay.Audit, tmp_path: Path):
    with pytest.raises(assay.OutputError, match=r"nothing holds no finished audit"):
        assay.load(tmp_path / "nothing")
    copy = shutil.copytree(audit.path, tmp_path / "copy")
    shard = copy / "scores" / "part-00001.parquet"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(assay.OutputError, match=r"part-00001\.parquet is damaged: .*restore it"):
        assay.load(copy)
    shard.unlink()
    with pytest.raises(assay.OutputError, match=r"part-00001\.parquet is missing"):
        assay.load(copy)
    (copy / "audit.json").write_text("{")
    with pytest.raises(assay.OutputError, match=r"audit\.json is damaged"):
        assay.load(copy)


def test_a_damaged_head_is_refused(audit: assay.Audit, tmp_path: Path):
    copy = shutil.copytree(audit.path, tmp_path / "copy")
    os.truncate(copy / "head.safetensors", 100)
    with pytest.raises(assay.OutputError, match=r"head\.safetensors is not a head that assay saved"):
        _ = assay.load(copy).head


def test_a_copy_that_cannot_be_written_leaves_nothing(audit: assay.Audit, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(assay.OutputError, match="cannot be written"):
        audit.save(tmp_path / "file" / "copy")
    (tmp_path / "unfinished" / "work").mkdir(parents=True)
    (tmp_path / "unfinished" / "work" / "run.json").write_text("{}")
    with pytest.raises(assay.OutputError, match="holds an unfinished audit"):
        audit.save(tmp_path / "unfinished")
    assert (tmp_path / "unfinished" / "work" / "run.json").exists()


def test_the_codes_are_the_sorted_classes(audit: assay.Audit):
    assert audit.head.class_names == ("ant", "bee", "cat")
    assert np.array(audit.head.class_names)[CODES].tolist() == Y.tolist()
    assert audit.info["class_rows"] == np.bincount(CODES).tolist()
