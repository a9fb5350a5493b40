"""A result is never written over the data, an audit, or what is no plain file."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import assay

X = np.random.default_rng(0).normal(size=(60, 2))
FRAME = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "y": np.where(X[:, 0] > 0, "yes", "no")})


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> assay.Audit:
    folder = tmp_path_factory.mktemp("target")
    FRAME.to_csv(folder / "data.csv", index=False)
    (folder / "folder.csv").mkdir()
    (folder / "notes.csv").write_text("mine")
    (folder / "notes.html").write_text("mine")
    return assay.audit(folder / "data.csv", label="y", l2=1e-2, out=folder / "audit")


REFUSED = {
    "audit/scores/part-00000.parquet": "lies in the audit",
    "audit/new.csv": "lies in the audit",
    "data.csv": "holds the audited data, which are never changed",
    "folder.csv": "is no plain file",
    "notes.csv": "exists already; name another file, or pass overwrite",
    "nowhere/new.csv": "there is no folder .*nowhere; make it",
    "new.txt": "ends in .txt; name a file that ends in .parquet or .csv",
}


@pytest.mark.parametrize("name", REFUSED)
def test_exports_that_are_refused(audit: assay.Audit, name: str):
    overwrite = "exists" not in REFUSED[name]
    before = {p: p.read_bytes() for p in audit.path.parent.rglob("*") if p.is_file()}
    with pytest.raises(assay.OutputError, match=REFUSED[name]):
        audit.export(audit.path.parent / name, overwrite=overwrite)
    assert before == {p: p.read_bytes() for p in audit.path.parent.rglob("*") if p.is_file()}


def test_a_link_to_the_data_is_the_data(audit: assay.Audit):
    link = audit.path.parent / "link.csv"
    link.symlink_to(audit.path.parent / "data.csv")
    with pytest.raises(assay.OutputError, match="holds the audited data"):
        audit.export(link, overwrite=True)
    link.unlink()


def test_a_report_replaces_only_itself(audit: assay.Audit):
    own = assay.write_report(audit)
    assert assay.write_report(audit, own) == own
    for name, said in {"audit/audit.json": "ends in .json", "audit/more.html": "lies in the audit"}.items():
        with pytest.raises(assay.OutputError, match=said):
            assay.write_report(audit, audit.path.parent / name, overwrite=True)
    with pytest.raises(assay.OutputError, match="exists already"):
        assay.write_report(audit, audit.path.parent / "notes.html")
    page = assay.write_report(audit, audit.path.parent / "notes.html", overwrite=True)
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_an_audit_is_not_saved_into_itself(audit: assay.Audit):
    with pytest.raises(assay.OutputError, match="lies in the audit itself"):
        audit.save(audit.path / "copy")


def test_devices_are_no_place_for_a_report(audit: assay.Audit, tmp_path: Path):
    (tmp_path / "null.html").symlink_to("/dev/null")
    with pytest.raises(assay.OutputError, match="is no plain file"):
        assay.write_report(audit, tmp_path / "null.html", overwrite=True)
