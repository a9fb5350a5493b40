"""The server beside other programs: their cookies, another audit at the same port, an audit that was made anew."""

import json
import shutil
from pathlib import Path

import pytest
from serving import Serving, digits_server, evil_audit, evil_server, serving

from assay.decisions.store import Decisions, Subject
from assay.review.guard import cookie_of
from assay.review.serve import port_of

__all__ = ["digits_server", "evil_audit", "evil_server"]


@pytest.mark.parametrize("other", ['a={"x":1}', "a[b]=1", "a b=1", "ü=1", "", "x", "expires=5", "assay_12=z"])
def test_other_programs_cookies_do_not_hide_ours(other: str):
    """Browsers send to each port of this machine the cookies of all the others."""
    assert cookie_of(f"{other}; assay_1=ours", "assay_1") == "ours"
    assert cookie_of(f"assay_1=ours; {other}", "assay_1") == "ours"
    assert cookie_of(other, "assay_1") is None


def test_a_cookie_that_is_there_twice_is_none():
    assert cookie_of("assay_1=a; assay_1=b", "assay_1") is None


def test_a_picture_is_never_taken_for_one_of_another_audit(digits_server: Serving):
    """At a port that is used again a browser's cache has the pictures of before: it asks if they are of this run."""
    first = digits_server.get("/media/5?size=96")
    mark = first.headers["etag"]
    assert first.headers["cache-control"] == "private, no-cache"
    assert len({mark, *(digits_server.get(path).headers["etag"] for path in ("/media/6", "/media/5?size=384"))}) == 3
    again = digits_server.get("/media/5?size=96", If_None_Match=mark)
    assert (again.status, again.body) == (304, b"")
    assert "content-security-policy" in again.headers
    assert digits_server.get("/media/5?size=96", If_None_Match='"of another run-5-96"').body == first.body


def test_an_audit_that_was_made_anew_is_not_shown_as_the_old_one(evil_audit: Path, tmp_path: Path):
    audit = Path(shutil.copytree(evil_audit, tmp_path / "audit", ignore=shutil.ignore_patterns("decisions*")))
    with serving(audit) as server:
        assert server.get("/api/queue").status == 200
        audit.rename(tmp_path / "gone")
        for _ in range(2):
            for answer in (server.get("/api/queue"), server.get("/api/sample/3"), server.post("/api/undo", {})):
                assert answer.status == 409
                assert "start `assay review` again" in answer.json["error"]
            decided = server.post("/api/decide", {"rows": [3], "action": "keep"})
            assert decided.status == 409
            assert "start `assay review` again" in server.get("/").body.decode()
            shutil.copytree(evil_audit, audit, ignore=shutil.ignore_patterns("decisions*"), dirs_exist_ok=True)


def test_what_a_person_opens_is_a_page(evil_server: Serving):
    for path in ("/static/nothing.js", "/nothing", "/regions/x"):
        answer = evil_server.get(path)
        assert (answer.status, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
    for path in ("/api/nothing", "/media/99999"):
        assert evil_server.get(path).json["error"]


def test_an_audit_has_a_port_of_its_own(evil_audit: Path, tmp_path: Path):
    """What a browser keeps (the place, decisions that wait) it keeps for a port."""
    assert port_of(evil_audit) == port_of(evil_audit) != port_of(tmp_path)
    audit = Path(shutil.copytree(evil_audit, tmp_path / "audit"))
    with serving(audit) as first:
        with serving(audit) as second:  # the port is taken
            assert second.port != first.port
        port = first.port
    with serving(audit) as again:
        assert again.port == port


def test_another_address_is_printed_as_it_is_reached(evil_audit: Path, capsys, monkeypatch):
    from assay.review import serve

    monkeypatch.setattr("assay.review.web.run.run", lambda *_, ready, **__: ready("t"))
    serve.serve(evil_audit, host="127.0.0.2", allowed=["lab.example"], browser=False)
    said = capsys.readouterr()
    assert said.out.startswith("review    http://lab.example:")
    assert "ssh" not in said.err


def test_a_regions_conflict_is_told_and_resolved(evil_server: Serving):
    key = evil_server.get("/api/regions").json["regions"][0]["region"]
    bob = evil_server.post("/api/user", {"name": "bob"}).headers["set-cookie"].partition(";")[0]
    evil_server.post("/api/decide-region", {"region": key, "action": "filter"})
    both = f"{evil_server.cookie}; {bob}"
    answer = evil_server.post("/api/decide-region", {"region": key, "action": "collect"}, Cookie=both)
    assert answer.json["conflict"] is True
    settled = evil_server.post("/api/decide-region", {"region": key, "action": "collect", "resolves": True})
    assert settled.json["conflict"] is False
    for cookie in (evil_server.cookie, both, evil_server.cookie):
        evil_server.post("/api/undo", {}, Cookie=cookie)


def test_an_export_folder_that_cannot_be_made_is_said(evil_audit: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with serving(evil_audit, "--exports", str(tmp_path / "file" / "x")) as server:
        answer = server.post("/api/export", {"format": "jsonl", "to": "log"})
        assert (answer.status, "--exports" in answer.json["error"]) == (409, True)
        assert str(tmp_path) not in answer.json["error"]


def test_the_session_names_the_data(evil_server: Serving, evil_audit: Path):
    """What waits in a browser for one audit is not sent to another of the same name."""
    found = evil_server.get("/api/session").json["audit"]
    info = json.loads((evil_audit / "audit.json").read_text())
    assert len(found) == 16
    assert found != info["fingerprint"]


def test_a_class_that_is_none_is_refused_by_the_exports(evil_audit: Path, tmp_path: Path):
    import assay

    audit = assay.load(shutil.copytree(evil_audit, tmp_path / "audit", ignore=shutil.ignore_patterns("decisions*")))
    store = Decisions.open(audit.path, fingerprint=audit.info["fingerprint"])
    store.decide("ann", [Subject(3, "3")], "relabel", ['"dog"'])
    store.close()
    for format, name in (("parquet", "a.parquet"), ("csv", "a.csv"), ("subset", "a")):
        with pytest.raises(assay.ShapeError, match=r"row 3 .*'dog'"):
            audit.export(tmp_path / name, format=format)
        assert not (tmp_path / name).exists()
    assert audit.export(tmp_path / "log.jsonl").exists()
