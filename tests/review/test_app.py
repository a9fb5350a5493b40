"""What the server answers: a sample and why, decisions and their undoing, several experts, regions, cuts, the map."""

import re
import sqlite3
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from serving import EVIL, NAMES, Serving, digits_server, evil_audit, evil_server

import assay

__all__ = ["digits_server", "evil_audit", "evil_server"]


@pytest.fixture
def server(digits_server: Serving) -> Serving:
    return digits_server


@pytest.fixture
def evil(evil_server: Serving) -> Serving:
    return evil_server


def named(server: Serving, name: str) -> str:
    """The cookies of a browser in which that expert works."""
    answer = server.post("/api/user", {"name": name})
    return f"{server.cookie}; {answer.headers['set-cookie'].partition(';')[0]}"


def decide(server: Serving, row: int, action: str, cookie: str | None = None, **more: object):
    asked = {"rows": [row], "action": action, **more}
    return server.post("/api/decide", asked, Cookie=cookie or server.cookie).json


def test_the_session_is_what_the_audit_says(server: Serving, digits_audit):
    found, info = server.get("/api/session").json, digits_audit.info
    assert found["rows"] == info["rows"]
    assert found["classes"] == [str(name) for name in info["classes"]]
    assert found["trust"]["verdict"] == digits_audit.trust.verdict
    assert (found["media"], found["table"], found["user"]) == ("image", False, "ann")
    assert {queue["name"]: queue["total"] for queue in found["queues"]}["mislabeled"] == info["kinds"]["mislabeled"]


def test_the_queue_is_the_audits_own_ranking(server: Serving, digits_audit):
    for name, kind in (("all", None), ("mislabeled", "mislabeled"), ("boundary", "boundary")):
        top = digits_audit.top(60, kind=kind)
        found = server.get(f"/api/queue?queue={name}&limit=60").json
        assert [item["row"] for item in found["items"]] == top["row"].to_pylist()
        assert [item["score"] for item in found["items"]] == top[found["score"]].to_pylist()
    assert [item["rank"] for item in found["items"]] == list(range(1, 61))


def test_a_sample_has_scores_words_and_a_picture(server: Serving, digits_audit):
    row = server.get("/api/queue?queue=mislabeled&limit=1").json["items"][0]["row"]
    found, scores = server.get(f"/api/sample/{row}").json, digits_audit.table.slice(row, 1).to_pylist()[0]
    for name in ("cooks_distance", "mislabeled_score", "loo_loss", "label_score"):
        assert found["scores"][name] == scores[name]
    by_influence = digits_audit.top(1_797)["row"].to_pylist()
    assert found["scores"]["cooks_rank"] == by_influence.index(row) + 1
    assert set(found["words"]) == set(found["scores"]) - {"cooks_rank"}
    assert f"number {found['scores']['cooks_rank']:,} of 1,797" in found["words"]["cooks_distance"]
    classes = found["probabilities"]
    assert sum(one["p"] for one in classes) == pytest.approx(1, abs=1e-9)
    assert classes[0] == {"label": str(scores["suggested_label"]), "p": pytest.approx(scores["confidence"], rel=1e-9)}
    given = next(one["p"] for one in classes if one["label"] == str(scores["given_label"]))
    assert given == pytest.approx(scores["label_score"], rel=1e-6)
    picture = server.get(f"/media/{row}")
    assert (picture.headers["content-type"], picture.body[:8]) == ("image/png", b"\x89PNG\r\n\x1a\n")


def test_why_is_the_audits_own_explanation(server: Serving, digits_audit):
    row = 1_044
    found, right = server.get(f"/api/why/{row}").json, digits_audit.explain(row)
    assert found["sentence"] == right.sentence
    for side in ("supporters", "opponents"):
        table = getattr(right, side)
        assert [one["row"] for one in found[side]] == table["row"].to_pylist()
        assert [one["given"] for one in found[side]] == [str(name) for name in table["given_label"].to_pylist()]
    X = digits_audit.head.design.matrix(digits_audit.source.take(range(1_797)).x).numpy()
    distances = np.linalg.norm(X - X[row], axis=1)
    distances[row] = np.inf
    nearest = distances.argsort(kind="stable")[:8]
    assert [one["row"] for one in found["neighbours"]] == nearest.tolist()
    np.testing.assert_allclose([one["distance"] for one in found["neighbours"]], distances[nearest], rtol=1e-6)


def test_decisions_are_answered_with_what_stands(server: Serving):
    first = decide(server, 700, "keep", seen={"700": None})
    assert first["items"][0]["decision"]["action"] == "keep"
    assert first["items"][0]["overtaken"] is False
    again = decide(server, 700, "relabel", seen={"700": None})
    assert again["items"][0]["overtaken"] is True, "somebody decided since the page looked"
    assert again["items"][0]["decision"]["label"] == server.get("/api/sample/700").json["suggested"]
    undone = server.post("/api/undo", {}).json
    assert (undone["rows"], undone["items"][0]["decision"]["action"]) == ([700], "keep")
    history = server.get("/api/sample/700").json["history"]
    assert [(one["action"], one["undone"]) for one in history] == [("keep", False), ("relabel", True), ("undo", False)]
    assert history[1]["from"]["action"] == "keep"
    assert server.get("/api/recent").json[0]["action"] == "relabel"
    server.post("/api/undo", {})


def test_a_range_is_one_act_and_one_undo(server: Serving):
    before = server.get("/api/queue?queue=all&status=open").json["total"]
    made = server.post("/api/decide", {"rows": list(range(800, 900)), "action": "drop"}).json
    assert (made["count"], len(made["items"])) == (100, 100)
    assert server.get("/api/queue?queue=all&status=open").json["total"] == before - 100
    assert len(server.post("/api/undo", {}).json["rows"]) == 100
    assert server.get("/api/queue?queue=all&status=open").json["total"] == before


def test_two_experts_disagree_and_one_resolves_it(server: Serving):
    bob, cid = named(server, "bob"), named(server, "cid")
    decide(server, 500, "keep", bob)
    answer = decide(server, 500, "relabel", cid, label="3", seen={"500": None})
    assert (answer["items"][0]["conflict"], answer["items"][0]["overtaken"]) == (True, True)
    listed = server.get("/api/queue?queue=conflicts").json["items"]
    assert [item["row"] for item in listed] == [500]
    resolved = decide(server, 500, "relabel", bob, label="3", resolves=True)
    assert resolved["items"][0]["conflict"] is False
    assert server.get("/api/queue?queue=conflicts").json["total"] == 0
    assert {"bob", "cid"} <= set(server.get("/api/session").json["users"])
    server.post("/api/undo", {}, Cookie=cid)
    assert server.get("/api/sample/500").json["decision"]["who"] == "bob"


def test_who_is_not_named_is_asked(evil_audit):
    from serving import serving

    with serving(evil_audit, user=None) as server:
        assert server.get("/api/session").json["user"] is None
        answer = server.post("/api/decide", {"rows": [1], "action": "keep"})
        assert (answer.status, answer.json["error"]) == (400, "say who you are first")


def test_keys_are_kept_for_a_user(server: Serving):
    dora = named(server, "dora")
    changed = {"keep": "y", "drop": "Delete"}
    assert server.post("/api/keys", {"keys": changed}, Cookie=dora).json["keys"]["keep"] == "y"
    assert server.get("/api/session", Cookie=dora).json["keys"]["drop"] == "Delete"
    assert server.get("/api/session").json["keys"] == server.get("/api/session").json["default_keys"]
    for bad in ({"keep": "d"}, {"explode": "e"}, {"keep": ""}, {"keep": 3}, []):
        assert server.post("/api/keys", {"keys": bad}, Cookie=dora).status == 400


def test_progress_says_when_there_is_not_enough(server: Serving):
    found = server.get("/api/progress?queue=under-represented").json
    assert (found["enough"], found["next"]) == (False, None)
    assert found["stop"]["sentence"].startswith("Not enough reviewed")
    rows = [item["row"] for item in server.get("/api/queue?queue=mislabeled&limit=40").json["items"]]
    server.post("/api/decide", {"rows": rows, "action": "relabel"})
    found = server.get("/api/progress?queue=mislabeled").json
    assert (found["reviewed"], found["finds"], found["enough"]) == (40, 40, True)
    assert found["yield"][-1] == {"reviewed": 40, "finds": 40}
    assert 0 <= found["next"]["low"] <= found["next"]["expected"] <= found["next"]["high"] <= found["next"]["samples"]
    server.post("/api/undo", {})


def test_the_map_is_a_pca_of_the_embedding(server: Serving, digits_audit):
    found = server.get("/api/map").json
    assert found["kind"] == "points"
    assert len(found["x"]) == 1_797
    X = digits_audit.head.design.matrix(digits_audit.source.take(range(1_797)).x).numpy()
    centred = X - X.mean(0)
    values = np.linalg.svd(centred, compute_uv=False) ** 2
    np.testing.assert_allclose(found["explained"], values[:2] / values.sum(), rtol=1e-5)
    np.testing.assert_allclose(np.var(found["x"]), values[0] / 1_797, rtol=1e-3)
    at = server.get(f"/api/map/at?x={found['x'][9]}&y={found['y'][9]}").json["row"]
    assert (found["x"][at], found["y"][at]) == (found["x"][9], found["y"][9])
    assert server.get("/api/map/at?x=nan&y=0").status == 400
    assert server.get("/api/map.png").status == 404


def test_whatever_the_data_say_is_data(evil: Serving, evil_audit: Path):
    session = evil.get("/api/session").json
    assert sorted(session["classes"]) == sorted(NAMES)
    assert f"f{EVIL}" in session["columns"]
    for path in ("/", "/map", "/regions", "/export"):
        page = evil.get(path)
        if page.status == 200:
            assert EVIL.encode() not in page.body
            assert not re.search(rb"<script(?![^>]*(src=|type=.application/json))", page.body)
    found = evil.get("/api/sample/0").json
    assert found["id"] == f"{EVIL}0"
    fields = {field["name"]: field for field in found["fields"]}
    assert fields[f"note {EVIL}"]["value"] == f"=HYPERLINK(0) {EVIL}"
    assert evil.get("/api/sample/0").headers["content-type"] == "application/json"
    chosen = evil.ask("GET", f"/api/queue?given={'%3Cscript%3Ealert(%22x%22)%3C/script%3E'}").json
    assert {item["given"] for item in chosen["items"]} == {EVIL}
    told = decide(evil, 5, "keep", note=EVIL)
    assert told["items"][0]["decision"]["note"] == EVIL
    evil.post("/api/undo", {})


def test_script_in_the_data_does_not_run_in_the_report(evil_audit: Path, tmp_path: Path):
    page = assay.write_report(assay.load(evil_audit), tmp_path / "report.html").read_text()
    assert "<script" not in page.lower()
    assert "&lt;script&gt;" in page


def test_a_value_has_its_place_among_all(evil: Serving, evil_audit: Path):
    table = pq.read_table(evil_audit.with_name("data.parquet"))
    values = np.sort(table["f0"].to_numpy())
    fields = {field["name"]: field for field in evil.get("/api/sample/7").json["fields"]}
    own = fields["f0"]["value"]
    assert fields["f0"]["quantile"] == pytest.approx((np.searchsorted(values, own) + 0.5) / len(values))
    assert fields["label"]["quantile"] is None


def test_a_region_is_decided_on_undone_and_in_the_exports(evil: Serving, evil_audit: Path):
    found = evil.get("/api/regions").json
    right = assay.load(evil_audit).regions()
    assert [one["rule"] for one in found["regions"]] == right.rules["rule"].to_pylist()
    first = found["regions"][0]["region"]
    assert evil.post("/api/decide-region", {"region": first, "action": "filter"}).json["decision"]["action"] == "filter"
    assert evil.get("/api/regions").json["regions"][0]["decision"]["who"] == "ann"
    written = evil.post("/api/export", {"format": "parquet", "to": "with region", "force": True}).json
    exported = pq.read_table(evil_audit.parent / written["path"])
    assert exported["kept"].to_pylist().count(False) == found["regions"][0]["rows"]
    undone = evil.post("/api/undo", {}).json
    assert (undone["rows"], undone["undone"]["region"]) == ([], first)
    assert evil.get("/api/regions").json["regions"][0]["decision"] is None
    for bad in ({"region": "x", "action": "keep"}, {"region": first, "action": "drop"}, {"action": "keep"}):
        assert evil.post("/api/decide-region", bad).status == 400


def test_cuts_are_drawn_through_the_sample(evil: Serving):
    found = evil.get("/api/cut?row=3").json
    assert {one["name"] for one in found["columns"]} == {"f0", f"f{EVIL}", "f=cmd()"}
    answer = evil.get("/api/cut.svg?row=3&x=f0&y=f%3Dcmd()")
    assert answer.headers["content-type"] == "image/svg+xml"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert ET.fromstring(answer.body).tag == "{http://www.w3.org/2000/svg}svg"
    assert b"<script" not in answer.body
    moved = evil.get("/api/cut.svg?row=3&x=f0&y=f%3Dcmd()&at.f%3Cscript%3Ealert(%22x%22)%3C/script%3E=2.5")
    assert moved.status == 200
    assert moved.body != answer.body
    dark = evil.get("/api/cut.svg?row=3&x=f0&y=f%3Dcmd()&dark=1").body
    assert b": #1f2328" in answer.body
    assert b": #ffffff" in answer.body
    assert not re.search(b": #(1f2328|6b7280|d4d8de|ffffff)", dark)
    for bad in ("x=f0&y=f0", "x=f0&y=nothing", "x=f0", "x=f0&y=f%3Dcmd()&at.nothing=1", "x=f0&y=f%3Dcmd()&at.f0=nan"):
        assert evil.get(f"/api/cut.svg?row=3&{bad}").status == 400


def test_exports_stay_in_their_folder(evil: Serving, evil_audit: Path):
    for name in ("../x", "/tmp/x", "a/b", ".hidden", "", "..", "a..b", "x" * 101, "a\x00b", 3):
        assert evil.post("/api/export", {"format": "csv", "to": name}).status == 400
    assert evil.post("/api/export", {"format": "exe", "to": "a"}).status == 400
    first = evil.post("/api/export", {"format": "jsonl", "to": "log"})
    assert first.json["path"] == "audit-export/log.jsonl"
    again = evil.post("/api/export", {"format": "jsonl", "to": "log"})
    assert (again.status, "exists already" in again.json["error"]) == (409, True)
    assert evil.post("/api/export", {"format": "jsonl", "to": "log.jsonl", "force": True}).status == 200
    assert not list(evil_audit.parent.glob("*/.*tmp*"))


def test_a_killed_worker_is_started_again(evil: Serving):
    import os
    import signal

    assert evil.get("/api/sample/1").status == 200
    children = Path(f"/proc/{evil.process.pid}/task/{evil.process.pid}/children").read_text().split()
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    assert evil.get("/api/sample/1").status == 200
    assert evil.get("/api/why/1").status == 200


def test_the_server_holds_no_torch(evil: Serving):
    maps = Path(f"/proc/{evil.process.pid}/maps").read_text()
    assert "libarrow" in maps
    assert "libtorch" not in maps


def test_the_decisions_lie_in_the_audit(server: Serving, evil_audit: Path):
    with sqlite3.connect(f"file:{evil_audit / 'decisions.sqlite'}?mode=ro", uri=True) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
