"""Bad input: one clear error before any long work, and a folder that the mended run can use."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from audits import KEYS, TARGETS, N, X, Y, contents, frame, write

import assay


class Told:
    """Progress that notes the stages."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    def start(self, stage: str, total: int) -> None:
        self.stages.append(stage)

    def advance(self, n: int = 1) -> None: ...
    def done(self) -> None: ...


def having(row: int, column: str, value: Any) -> pa.Table:
    values = np.array(frame()[column])
    values[row] = value
    return pa.table(frame(**{column: values}))


LISTS = pa.array([[1.0, 2.0]] * 100 + [[1.0]] + [[1.0, 2.0]] * (N - 101))
APART = X + 99 * (Y == "ant")[:, None]
TWICE = np.column_stack([X, X[:, 1] + X[:, 2]])

# name → data, arguments, the message
BAD: dict[str, tuple[Any, dict[str, Any], str]] = {
    "missing file": ("none.parquet", {}, r"there is no file none\.parquet; give the path"),
    "absent label": (frame(), {"label": "z"}, r"no column 'z' to take as label; the columns are 'f0', 'f1'"),
    "no features": ({"y": Y, "text": KEYS}, {}, r"there are no feature columns"),
    "no such features": (frame(), {"features": "q*"}, r"features='q\*' matches no numeric column"),
    "empty table": (pa.table(frame()).slice(0, 0), {}, "has no rows; there is nothing to audit"),
    "mixed labels": ((X, np.array([0, "a"] * (N // 2), object)), {}, r"labels\[0\] = 0 is integer, labels\[1\] = 'a'"),
    "lengths": ((X, Y[:-1]), {}, "240 rows of features, but 239 labels"),
    "weights' length": ((X, Y), {"weight": np.ones(3)}, "240 rows of features, but 3 weights"),
    "object array": ((X.astype(object), Y), {}, r"features have dtype object; give an array of numbers"),
    "image shape": (frame(), {"image_shape": (3, 3)}, r"image_shape=\(3, 3\) does not fit 4 features"),
    "unknown family": (frame(), {"family": "probit"}, "family='probit' is not one of 'softmax', 'logistic', 'linear'"),
    "logistic of three": (frame(), {"family": "logistic"}, 'takes two classes, but there are 3; use family="softmax"'),
    "linear of words": (frame(), {"family": "linear"}, "target column 'y' is string; regression needs numbers"),
    "softmax of numbers": ((X, TARGETS[:, 0]), {"family": "softmax"}, "not a 64-bit integer; .*regression=True"),
    "several classes": (frame(z=Y), {"label": ["y", "z"]}, r"target column 'y' is string; regression needs numbers"),
    "negative l2": (frame(), {"l2": -1e-3}, 'l2=-0.001 is neither "auto" nor a finite number ≥ 0'),
    "l2 NaN": (frame(), {"l2": float("nan")}, 'l2=nan is neither "auto"'),
    "l2 infinite": (frame(), {"l2": float("inf")}, 'l2=inf is neither "auto"'),
    "l2 in words": (frame(), {"l2": "small"}, "l2='small' is neither"),
    "shard_rows": (frame(), {"shard_rows": 0}, "shard_rows=0, seed=0; a shard has at least one row"),
    "seed": (frame(), {"seed": -1}, "a seed is not negative"),
}
# the same, seen only when the rows are read
BAD_ROWS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "NaN": (having(77, "f2", np.nan), {}, "row 77: feature 'f2' is nan; every value must be finite"),
    "infinity": (having(200, "f0", -np.inf), {}, "row 200: feature 'f0' is -inf"),
    "NaN target": ((X, np.where(np.arange(N) == 5, np.nan, TARGETS[:, 0])), {}, "row 5: target 'y' is nan"),
    "one class": (frame(y=["ant"] * N), {}, "only one class is there: .* is 'ant'"),
    "constant target": ((X, np.ones(N)), {}, r"target 'y' is 1\.0 in every sample"),
    "negative weight": (frame(w=np.arange(N) - 3.0), {"weight": "w"}, r"row 0: the weight is -3\.0"),
    "no weight": (frame(w=np.zeros(N)), {"weight": "w"}, "all weights are zero"),
    "unequal lists": (frame(e=LISTS), {"embedding": "e"}, r"row 100: the list in column 'e' has 1 values, .*has 2"),
    "duplicate ids": (
        frame(k=["a", *KEYS[1:-1], "a"]),
        {"id": "k"},
        "'a' is the id of rows 0 and 239; make ids unique",
    ),
}


def table(data: Any) -> Any:
    return pa.table(data) if isinstance(data, dict) else data


@pytest.mark.parametrize("name", [*BAD, *BAD_ROWS])
def test_one_error_before_any_long_work_and_the_folder_is_free_again(name: str, tmp_path: Path):
    data, arguments, said = (BAD | BAD_ROWS)[name]
    told, out = Told(), tmp_path / "audit"
    with pytest.raises((assay.SourceError, assay.ShapeError), match=said):
        assay.audit(table(data), **arguments, out=out, progress=told)
    assert told.stages == [] if name in BAD else set(told.stages) <= {"read"}
    assert not out.exists() or not list(out.iterdir())
    assay.audit((X, Y), l2=1e-2, out=out)
    assert len(assay.load(out).table) == N


def test_the_file_its_row_and_column_are_named(tmp_path: Path):
    path = tmp_path / "a.parquet"
    pq.write_table(having(123, "f1", np.inf), path)
    with pytest.raises(assay.SourceError, match=r"/a\.parquet, row 123: feature 'f1' is inf"):
        assay.audit(path, out=tmp_path / "audit", shard_rows=50)
    write(path)
    assert len(assay.audit(path, l2=1e-2, out=tmp_path / "audit", shard_rows=50).table) == N
    bad = X.copy()
    bad[9, 2] = np.nan
    with pytest.raises(assay.SourceError, match=r"^row 9: feature 'x2' is nan"):  # arrays lie in no file of the user's
        assay.audit((bad, Y), l2=1e-2)


def test_unreadable_and_pickled_files(tmp_path: Path):
    write(tmp_path / "a.parquet")
    data = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(data[: len(data) // 2])
    with pytest.raises(assay.SourceError, match=r"a\.parquet cannot be read as Parquet"):
        assay.audit(tmp_path / "a.parquet", out=tmp_path / "audit")
    np.save(tmp_path / "x.npy", X.astype(object))
    np.save(tmp_path / "y.npy", Y)
    with pytest.raises(assay.SourceError, match=r"x\.npy.*pickle"):
        assay.audit((tmp_path / "x.npy", tmp_path / "y.npy"), out=tmp_path / "audit")
    assert not (tmp_path / "audit").exists()


SINGULAR: dict[str, tuple[Any, Any, type[assay.AssayError], str]] = {
    "fewer rows than parameters": (
        np.random.default_rng(0).normal(size=(6, 9)),
        np.arange(6.0),
        assay.SingularCurvatureError,
        r"rank 6 of 10; the columns that depend on each other are .*Give l2 > 0",
    ),
    "fewer rows than parameters, classes": (
        np.random.default_rng(0).normal(size=(6, 9)),
        np.arange(6) % 2,
        assay.SingularCurvatureError,
        r"rank 6 of 10; ",
    ),
    "collinear": (TWICE, Y, assay.SingularCurvatureError, r"rank 10 of 12; .* are x1, x2, x4\. Give l2 > 0"),
    "collinear targets": (TWICE, TARGETS, assay.SingularCurvatureError, r"rank 5 of 6; .* are x1, x2, x4\. Give"),
    "separable": (
        APART,
        Y == "ant",
        assay.SeparableError,
        r"perfectly separated.*Give l2 > 0",
    ),
    "one class apart": (APART, Y, assay.SeparableError, r"separated.*Give l2 > 0"),
}


@pytest.mark.parametrize("name", SINGULAR)
def test_without_a_penalty_some_data_have_no_answer(name: str, tmp_path: Path):
    data, labels, error, said = SINGULAR[name]
    told = Told()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", assay.AssayWarning)
        with pytest.raises(error, match=said) as caught:
            assay.audit((data, labels), l2=0.0, out=tmp_path / "audit", progress=told)
        assert "score" not in told.stages
        assert not (tmp_path / "audit").exists()
        audit = assay.audit((data, labels), l2=1e-2, out=tmp_path / "audit")
    assert audit.info["l2"] == 1e-2
    if isinstance(caught.value, assay.SingularCurvatureError):
        assert caught.value.rank < caught.value.size
        assert set(caught.value.columns) <= {f"x{j}" for j in range(9)} | {"(bias)"}


def test_folders_that_cannot_be_used(tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    told = Told()
    for name, said in [
        ("file", "file is a file; name a folder"),
        ("file/below", r"file/below cannot be written \(.*name another folder"),
        ("full", r"full holds files that are not an audit's \(thesis\.tex\); name a new or empty folder"),
    ]:
        with pytest.raises(assay.OutputError, match=said):
            assay.audit((X, Y), out=tmp_path / name, progress=told)
        with pytest.raises(assay.OutputError, match=said):
            assay.audit((X, Y), out=tmp_path / name, overwrite=True)
    assert told.stages == []
    assert (tmp_path / "file").read_text() == (tmp_path / "full" / "thesis.tex").read_text() == "mine"
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.tex"]


def test_a_finished_audit_is_kept_unless_asked(tmp_path: Path):
    assay.audit((X, Y), l2=1e-2, out=tmp_path)
    before = contents(tmp_path)
    with pytest.raises(assay.OutputError, match="holds a finished audit; name another folder, or pass overwrite=True"):
        assay.audit((X, Y), l2=1e-2, out=tmp_path)
    assert contents(tmp_path) == before
    assay.audit((X, Y), l2=1e-1, out=tmp_path, overwrite=True)
    assert assay.load(tmp_path).info["l2"] == 1e-1
    assay.audit((X, Y), l2=1e-2, out=tmp_path, overwrite=True)
    assert contents(tmp_path) == before


def test_a_refused_overwrite_leaves_the_old_audit_as_it_was(tmp_path: Path):
    audit = assay.audit((X, Y), l2=1e-2, out=tmp_path)
    assay.write_report(audit)
    before = contents(tmp_path)
    for data, l2 in (("none.parquet", 1e-2), (having(77, "f2", np.nan), 1e-2), ((TWICE, Y), 0.0), ((X, Y), -1.0)):
        with pytest.raises(assay.AssayError):
            assay.audit(data, l2=l2, out=tmp_path, overwrite=True)
        assert contents(tmp_path) == before


def test_decisions_of_an_expert_are_never_overwritten(tmp_path: Path):
    assay.audit((X, Y), l2=1e-2, out=tmp_path)
    (tmp_path / "decisions.sqlite").write_bytes(b"mine")
    before = contents(tmp_path)
    with pytest.raises(assay.OutputError, match="holds decisions of an expert, which are not overwritten"):
        assay.audit((X, Y), l2=1e-2, out=tmp_path, overwrite=True)
    assert contents(tmp_path) == before


def unfinished(folder: Path, **arguments: Any) -> None:
    """An audit that stopped in its fit."""

    class Stop(Told):
        def start(self, stage: str, total: int) -> None:
            if stage == "fit":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        assay.audit((X, Y), **arguments, out=folder, progress=Stop())


def test_an_unfinished_audit_of_something_else_is_kept(tmp_path: Path):
    unfinished(tmp_path / "audit", l2=1e-2)
    before = contents(tmp_path / "audit")
    labels = np.where(np.arange(N) == 9, "dog", Y)
    for data, arguments, differs in (((X, labels), {"l2": 1e-2}, "fingerprint"), ((X, Y), {"l2": 1e-3}, "arguments")):
        with pytest.raises(assay.OutputError, match=rf"an unfinished audit of something else \({differs} differ\)"):
            assay.audit(data, **arguments, out=tmp_path / "audit")
        assert contents(tmp_path / "audit") == before
    for data in ("none.parquet", (X, Y[:-1])):
        with pytest.raises(assay.AssayError):
            assay.audit(data, l2=1e-2, out=tmp_path / "audit")
        assert contents(tmp_path / "audit") == before, "a slip of the hand loses nothing"
    with pytest.raises(
        assay.OutputError, match="audit holds no finished audit; it is unfinished: run the same audit again"
    ):
        assay.load(tmp_path / "audit")
    told = Told()
    assay.audit((X, Y), l2=1e-2, out=tmp_path / "audit", progress=told)
    assert "read" not in told.stages, "what was finished is not done again"
    assay.audit((X, Y), l2=1e-2, out=tmp_path / "new")
    assert contents(tmp_path / "audit") == contents(tmp_path / "new")


def test_an_unfinished_audit_is_overwritten_if_asked(tmp_path: Path):
    unfinished(tmp_path / "audit", l2=1e-2)
    assay.audit((X[:100], Y[:100]), l2=1e-3, out=tmp_path / "audit", overwrite=True)
    assay.audit((X[:100], Y[:100]), l2=1e-3, out=tmp_path / "new")
    assert contents(tmp_path / "audit") == contents(tmp_path / "new")


def test_stale_shards_are_never_taken_for_those_of_a_new_audit(tmp_path: Path):
    """As an old audit would lie there of which only `audit.json` was deleted."""
    assay.audit((X, Y), l2=1e-1, out=tmp_path / "audit")
    (tmp_path / "audit" / "audit.json").unlink()
    assay.audit((X, Y), l2=1e-2, out=tmp_path / "audit")
    assay.audit((X, Y), l2=1e-2, out=tmp_path / "new")
    assert contents(tmp_path / "audit") == contents(tmp_path / "new")


def test_what_was_run_is_written_down(tmp_path: Path):
    info = json.loads((assay.audit((X, Y), l2=1e-2, seed=3, out=tmp_path).path / "audit.json").read_text())
    assert info["arguments"] == {
        "family": "softmax", "l2": 1e-2, "seed": 3, "shard_rows": 16384, "standardize": True, "encoder": None,
        "trim": True,
    }  # fmt: skip
    assert {"torch", "numpy", "pyarrow"} <= set(info["versions"])
    assert len(info["fingerprint"]) == 64
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "audit.json", "curvature.safetensors", "head.safetensors", "scores", "source", "trimmed_curvature.safetensors",
        "trimmed_head.safetensors",
    ]  # fmt: skip
