"""The command line as a user has it: what it prints where, what it writes, how it ends."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import assay
import oracles
from commands import together

ASSAY = str(Path(sys.executable).with_name("assay"))
"""As it is installed; the fixture below runs this, all else `together`, which saves each command the imports."""

X, CODES = oracles.blobs(200, 4, 3, spread=0.6)
Y = np.array(["ant", "bee", "cat"])[CODES]


def strict_json(text: str) -> Any:
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train.parquet, and audit/ made from it by the command line."""
    home = tmp_path_factory.mktemp("cli")
    columns = {f"f{j}": X[:, j] for j in range(4)}
    pq.write_table(pa.table({**columns, "const": np.zeros(200), "kind of": Y}), home / "train.parquet")
    command = [ASSAY, "audit", "train.parquet", "--label", "kind of"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=home)
    (home / "said.json").write_text(json.dumps([done.returncode, done.stdout, done.stderr]))
    return home


def test_audit_prints_a_summary_and_says_warnings_on_stderr(folder: Path):
    code, out, err = json.loads((folder / "said.json").read_text())
    assert code == 0, err
    assert err == "assay: 1 of 5 columns never vary and are left out: const\n"
    lines = dict(line.split(None, 1) for line in out.splitlines())
    assert lines["audited"].startswith("200 samples, softmax head, λ2 = ")
    assert re.fullmatch(r"\d+ mislabeled, \d+ under-represented, \d+ boundary", lines["suspects"])
    assert re.match(r"(TRUST|CAUTION|DO NOT TRUST): ", lines["trust"])
    assert lines["audit"] == "audit/"
    assert lines["next"] == "assay report audit"
    audit = assay.load(folder / "audit")
    assert audit.info["kinds"].get("mislabeled", 0) == int(lines["suspects"].split()[0])


def test_every_option_reaches_the_audit(folder: Path, tmp_path: Path):
    keys, weights = [f"k{i}" for i in range(200)], np.arange(200.0) + 1
    table = {"key": keys, "w": weights, "e": list(X), "f9": X[:, 0], "y": CODES > 0}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    common = ("--label", "y", "--id", "key", "--weight", "w", "--family", "logistic", "--l2", "0.01", "--seed", "4")
    options = ["--embedding", "e", "--no-standardize", "--image-shape", "2,2", "--workers", "1", "--no-trim", "--json"]
    [(code, out, err)] = together(tmp_path, ["audit", "a.parquet", *common, *options, "--out", "out"])
    assert code == 0, err
    audit = assay.load(tmp_path / "out")
    assert audit.info["arguments"] == {
        "family": "logistic", "l2": 0.01, "seed": 4, "shard_rows": 16384, "encoder": None, "standardize": False,
        "trim": False,
    }  # fmt: skip
    assert audit.source.image_shape == (2, 2)
    assert audit.info["total_weight"] == 200 * 201 / 2
    assert audit.table["id"].to_pylist() == keys
    head = assay.Head.fit(X, CODES > 0, family="logistic", weights=weights, l2=0.01, standardize=False)
    np.testing.assert_allclose(
        audit.table["cooks_distance"].to_numpy(),
        head.leverage(X, CODES > 0, weights=weights).cooks_distance().numpy(),
        rtol=1e-9,
    )
    said = strict_json(out)
    assert {"rows", "kinds", "l2", "trust", "reason", "path", "fingerprint"} <= set(said)
    assert (said["rows"], said["l2"], said["path"]) == (200, 0.01, "out")


def test_several_targets_by_commas(tmp_path: Path):
    u, v = oracles.regression(200, 4, 2)[1].T
    pd.DataFrame({**{f"f{j}": X[:, j] for j in range(4)}, "u": u, "v": v}).to_csv(tmp_path / "a.csv", index=False)
    options = ["--label", "u,v", "--features", "f0,f[12]", "--l2", "1", "--out", "out"]
    [(code, _, err)] = together(tmp_path, ["audit", "a.csv", *options])
    assert code == 0, err
    info = assay.load(tmp_path / "out").info
    assert info["targets"] == ["u", "v"]
    assert info["columns"] == ["f0", "f1", "f2"]


def test_report(folder: Path):
    inside, named = together(folder, ["report", "audit"], ["report", "audit", "--to", "page.html"])
    assert inside == (0, "audit/report.html\n", "")
    assert "<html" in (folder / "audit" / "report.html").read_text()[:300]
    assert named == (0, "page.html\n", "")
    assert (folder / "page.html").exists()


def test_trust(folder: Path):
    trust = assay.load(folder / "audit").trust
    ends = together(folder, ["trust", "audit"], ["trust", "audit", "--json"])
    assert [code for code, _, _ in ends] == [3 if trust.verdict == "do not trust" else 0] * 2
    assert f"{trust.verdict.upper()}: {trust.reason}" in ends[0][1]
    assert all(check.sentence in ends[0][1] for check in trust.checks)
    assert assay.TrustReport.from_json(strict_json(ends[1][1])) == trust


def test_export(folder: Path, tmp_path: Path):
    files = {str(tmp_path / "cleaned.parquet"): pd.read_parquet, str(tmp_path / "cleaned.csv"): pd.read_csv}
    commands = [["export", "audit", "--to", file] for file in files]
    *ends, refused, replaced = together(folder, *commands, commands[1], [*commands[1], "--overwrite"])
    assert ends == [(0, f"{file}\n", "") for file in files]
    for file, read in files.items():
        table = read(file)
        assert table["kind of"].tolist() == Y.tolist()
        assert table["suggested_label"].tolist() == assay.load(folder / "audit").table["suggested_label"].to_pylist()
    assert refused[0] == 1
    assert "exists already" in refused[2]
    assert replaced[0] == 0


def test_what_cannot_be_trusted_ends_with_3(tmp_path: Path):
    np.savez(tmp_path / "a.npz", X=X[:5], y=X[:5, 0] + X[:5, 1] ** 2)
    audited, said, as_json = together(
        tmp_path, ["audit", "a.npz", "--l2", "0"], ["trust", "audit"], ["trust", "audit", "--json"]
    )
    assert (audited[0], said[0], as_json[0]) == (0, 3, 3)
    assert said[1].startswith("✗ DO NOT TRUST: ")
    assert strict_json(as_json[1])["verdict"] == "do not trust"


def test_the_demo_finds_its_own_flips(tmp_path: Path):
    [(code, out, err)] = together(tmp_path, ["demo"])
    assert code == 0, err
    found = re.search(r"planted   (\d+) of 90 flipped labels .* 90 suspects, (\d+) among", out)
    assert found
    assert 72 <= int(found[1]) <= int(found[2]) <= 90
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audit-digits"]
    assert (tmp_path / "audit-digits" / "report.html").exists()


@pytest.mark.slow
def test_another_demo_replaces_the_first(tmp_path: Path):
    common = ["demo", "digits", "--out", "out", "--json"]
    *ends, unknown = together(tmp_path, common, [*common, "--flips", "0.1", "--seed", "1"], ["demo", "letters"])
    assert unknown[0] == 2
    one, two = (strict_json(out) for _, out, _ in ends)
    assert (one["found"]["planted"], two["found"]["planted"]) == (90, 180)
    assert two["report"] == "out/report.html"
    assert assay.load(tmp_path / "out").info["fingerprint"] == two["fingerprint"] != one["fingerprint"]


def test_dry_run_says_what_it_would_take_and_writes_nothing(folder: Path, tmp_path: Path):
    before = sorted(folder.rglob("*"))
    pq.read_table(folder / "train.parquet").to_pandas().to_csv(tmp_path / "a.csv", index=False)
    for data in (str(folder / "train.parquet"), "a.csv"):
        command = ["audit", data, "--label", "kind of", "--dry-run"]
        (code, out, err), (_, as_json, _) = together(tmp_path, command, [*command, "--json"])
        assert code == 0, err
        lines = dict(line.split(None, 1) for line in out.splitlines())
        assert set(lines) == {"rows", "passes", "time", "memory", "disk"}
        assert lines["rows"].startswith("200 × 5 columns, 12 parameters")
        plan = strict_json(as_json)
        assert plan["rows"] == 200
        assert min(plan[name] for name in ("passes", "seconds", "peak_bytes", "disk_bytes")) > 0
    assert sorted(folder.rglob("*")) == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


REFUSED = [
    (["audit", "none.parquet", "--out", "new"], "there is no file none.parquet"),
    (["audit", "train.parquet", "--label", "kind of", "--out", "new", "--features", "q*"], "matches no numeric column"),
    (["audit", "train.parquet", "--out", "new"], "which column is the label?"),
    (["audit", "train.parquet", "--label", "kind of", "--out", "new", "--l2", "-1"], 'neither "auto" nor a finite'),
    (
        ["audit", "train.parquet", "--label", "kind of", "--out", "new", "--family", "probit"],
        "family='probit' is not one",
    ),
    (["audit", "train.parquet", "--label", "kind of", "--dry-run", "--family", "linear"], "regression needs numbers"),
    (["audit", "train.parquet", "--label", "kind of"], "audit holds a finished audit"),
    (["audit", "train.parquet", "--label", "kind of", "--out", "train.parquet"], "train.parquet is a file"),
    (["report", "nothing"], "nothing holds no finished audit"),
    (["trust", "nothing"], "nothing holds no finished audit"),
    (["export", "audit", "--to", "a.xlsx"], "name a file that ends in .parquet or .csv"),
    (["report", "audit", "--to", "none/page.html"], "cannot be written"),
]


def test_what_is_refused_is_one_line_on_stderr_and_1(folder: Path):
    before = sorted(folder.rglob("*"))
    ends = together(folder, *(arguments for arguments, _ in REFUSED))
    for (arguments, said), (code, out, err) in zip(REFUSED, ends, strict=True):
        assert code == 1, arguments
        assert out == "", arguments
        assert re.fullmatch(r"assay: [^\n]+\n", err), err
        assert said in err
    assert sorted(folder.rglob("*")) == before


MISSPELT = [
    (["audit"], "Missing argument"),
    (["audit", "train.parquet", "--l2", "much"], "--l2 much is neither 'auto' nor a number"),
    (["audit", "train.parquet", "--image-shape", "8x8"], "--image-shape 8x8 is not h,w or h,w,channels"),
    (["audit", "train.parquet", "--workers", "0"], "--workers"),
    (["audit", "train.parquet", "--seed", "-1"], "--seed"),
    (["audit", "train.parquet", "--colour"], "No such option"),
    (["export", "audit"], "Missing option"),
    (["nothing"], "No such command"),
]


def test_wrong_usage_is_2(folder: Path):
    ends = together(folder, *(arguments for arguments, _ in MISSPELT))
    for (arguments, said), (code, out, err) in zip(MISSPELT, ends, strict=True):
        assert code == 2, arguments
        assert said in err, arguments
        assert "Traceback" not in err
        assert out == "", arguments


LAZY = """
import sys
from assay.cli import app
try:
    app({arguments}, prog_name="assay")
except SystemExit as end:
    assert not end.code, end.code
heavy = {{"torch", "numpy", "pyarrow", "sklearn", "scipy", "matplotlib"}} & set(sys.modules)
print(heavy or "light", file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", [["--help"], ["audit", "--help"], ["trust", "--help"]])
def test_help_does_not_wait_for_torch(arguments: list[str]):
    done = subprocess.run(
        [sys.executable, "-c", LAZY.format(arguments=arguments)], capture_output=True, text=True, check=True
    )
    assert done.stderr == "light\n"
    assert "Usage: assay" in done.stdout


def test_a_command_does_not_end_with_a_search_for_garbage():
    """What is registered first is called last."""
    script = "import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count())); import assay.cli"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 1_000


def test_an_audit_and_the_page_do_not_wait_for_scikit_learn():
    """It takes as long to import as torch, and few of their calls need it."""
    script = (
        "import sys, assay.cli, assay.auditing.run, assay.report, assay.review.tasks; print('sklearn' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_score_group_and_duplicates_of_an_audit(folder: Path):
    new = {f"f{j}": X[:20, j] + (9.0 if j == 2 else 0.0) for j in range(4)}
    pq.write_table(pa.table({**new, "const": np.zeros(20), "kind of": Y[:20]}), folder / "new.parquet")
    ends = together(
        folder,
        ["score", "audit", "new.parquet", "--to", "scored.csv"],
        ["score", "audit", "new.parquet", "--json"],
        ["group", "audit", "--where", "`kind of` == 'ant'"],
        ["group", "audit", "--where", "given_label == 'ant' and f1 > 0"],
        ["group", "audit", "--ids", "3, 4,5", "--order", "newton", "--refit", "--json"],
        ["group", "audit", "--ids", "3,x"],
        ["group", "audit"],
        ["group", "audit", "--ids", "3", "--order", "5"],
        ["duplicates", "audit", "--within", "0.9", "--to", "twins.parquet"],
        ["duplicates", "audit", "--within", "0.9", "--json"],
        ["duplicates", "audit", "--to", "audit/twins.parquet"],
    )
    scored, scored_json, bad, group, exact, typo, none, order, twins, twins_json, inside = ends
    assert scored[0] == 0, scored[2]
    assert scored[1].startswith("The training set is thin at 20 of 20")
    assert list(pd.read_csv(folder / "scored.csv")["thin"]) == [True] * 20
    assert strict_json(scored_json[1])["thin"]["new"] == 20
    assert bad[0] == 1
    assert "cannot be read" in bad[2]
    assert group[0] == 0, group[2]
    lines = group[1].splitlines()
    assert lines[0] == f"group     {((Y == 'ant') & (X[:, 1] > 0)).sum()} samples, {lines[0].split(', ')[1]}"
    assert lines[-1].split()[0] == "cat"
    found = strict_json(exact[1])
    assert (found["samples"], found["answer"]) == (3, "refit")
    assert [row["class"] for row in found["classes"]] == ["ant", "bee", "cat"]
    assert [typo[0], none[0], order[0], inside[0]] == [2, 2, 2, 1]
    assert "'x' is no integer" in typo[2]
    assert "lies in the audit" in inside[2]
    assert pq.read_table(folder / "twins.parquet").num_rows == len(strict_json(twins_json[1]))
    assert "in" in twins[1]


def test_regions_go_to_files_of_their_own(tmp_path):
    table = pd.DataFrame(X, columns=["f0", "f1", "f2", "f3"]).assign(label=Y)
    path = str(assay.audit(table, label="label", l2=1e-3, out=tmp_path / "audit").path)
    files = {name: tmp_path / f"{name}.csv" for name in ("to", "clusters", "needs")}
    targets = [str(part) for name, file in files.items() for part in (f"--{name}", file)]
    first, twice, words = together(
        tmp_path,
        ["regions", path, "--columns", "f0,f1", *targets],
        ["regions", path, "--columns", "f0,f1", "--to", str(files["to"]), "--needs", str(files["to"]), "--overwrite"],
        ["cuts", path, "--vary", "f0,label"],
    )
    assert first[0] == 0, first
    heads = {name: file.read_text(encoding="utf-8").split("\n")[0] for name, file in files.items()}
    assert "stability" in heads["to"]
    assert "representative" in heads["clusters"]
    assert "f0_low" in heads["needs"]
    assert twice[0] == 2
    assert "files of their own" in twice[2]
    assert words[0] == 1
    assert "column 'label' is not" in words[2]
