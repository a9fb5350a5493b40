"""What a request may ask: queries, bodies and names that are none are refused in a sentence, and change nothing."""

import json
from urllib.parse import quote

import pytest
from serving import Serving, digits_server

__all__ = ["digits_server"]


@pytest.fixture
def server(digits_server: Serving) -> Serving:
    return digits_server


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("queue=%27%3B+DROP+TABLE+decisions%3B--", 400), ("given=%27%20OR%201%3D1--", 400),
        ("suggested=%22%3BDROP", 400), ("status=open%27--", 400), ("low=1%3BDELETE", 400), ("high=nan", 400),
        ("low=inf", 400), ("low=-1e999", 400), ("limit=9223372036854775808", 400), ("limit=-1", 400), ("limit=0", 400),
        ("limit=201", 400), ("limit=1e2", 400), ("limit=NaN", 400), ("rank=-1", 400), ("rank=9223372036854775808", 400),
        ("rank=1_0", 400), ("after=x", 400), ("before=nan_1", 400), ("after=0x1.0p%2b0_9999999999999999999", 400),
        ("rank=1&after=0x1.0p%2b0_1", 400), ("rank=9007199254740992", 200), ("unknown=1", 200), ("low=", 200),
    ],
)  # fmt: skip
def test_queries_are_checked(server: Serving, query: str, status: int):
    answer = server.get(f"/api/queue?{query}")
    assert answer.status == status, answer.body
    if status == 400:
        assert "Traceback" not in answer.json["error"]
    assert server.get("/api/queue?limit=1").json["total"] == 1_797


@pytest.mark.parametrize(
    "rows",
    ["", ",", "1,", "1,,2", "-1", "1797", "1e3", "9223372036854775808", "1;DROP", "\u0661", ",".join(["1"] * 65)],
)
def test_rows_of_pictures_are_checked(server: Serving, rows: str):
    assert server.get(f"/api/pictures?rows={quote(rows)}").status == 400
    assert server.get("/api/pictures").status == 400


@pytest.mark.parametrize(
    "body",
    [
        {"rows": [], "action": "keep"}, {"rows": [2**63], "action": "keep"}, {"rows": [-1], "action": "keep"},
        {"rows": ["1"], "action": "keep"}, {"rows": [True], "action": "keep"}, {"rows": [1.0], "action": "keep"},
        {"rows": "1", "action": "keep"}, {"rows": list(range(10_001)), "action": "keep"}, {"rows": [1]},
        {"rows": [1], "action": "undo"}, {"rows": [1], "action": "filter"}, {"rows": [1], "action": ["keep"]},
        {"rows": [1], "action": "relabel", "label": "x'; DROP TABLE decisions; --"},
        {"rows": [1], "action": "relabel", "label": {"a": 1}}, {"rows": [1], "action": "keep", "note": "x" * 2_001},
        {"rows": [1], "action": "keep", "note": 3}, {"rows": [1], "action": "keep", "resolves": "yes"},
        {"rows": [1], "action": "keep", "note": "\ud800"}, [], "keep", 3, None,
    ],
    ids=lambda body: json.dumps(body)[:40],
)  # fmt: skip
def test_bodies_are_checked(server: Serving, body: object):
    answer = server.post("/api/decide", body)
    assert answer.status == 400, answer.body
    assert server.get("/api/recent").json == []


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"rows": [NaN], "action": "keep"}'])
def test_what_is_no_json_is_refused(server: Serving, text: bytes):
    assert server.post("/api/decide", text).status == 400


@pytest.mark.parametrize("name", ["", " ", "x" * 61, "a\nb", "\u202e", "\x00", 3, None])
def test_names_of_users_are_checked(server: Serving, name: object):
    assert server.post("/api/user", {"name": name}).status == 400
