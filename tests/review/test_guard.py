"""Who is let in, and what is asked of them: each line of "Safe" by a request that breaks it."""

import re

import pytest
from serving import Serving, digits_server, evil_audit, evil_server, serving

__all__ = ["digits_server", "evil_audit", "evil_server"]

PATHS = [
    "/",
    "/map",
    "/regions",
    "/export",
    "/api/session",
    "/api/queue",
    "/api/sample/0",
    "/media/0",
    "/static/review.js",
]


@pytest.fixture
def server(digits_server: Serving) -> Serving:
    return digits_server


@pytest.mark.parametrize("path", [*PATHS, "/api/nothing", "/favicon.ico"])
@pytest.mark.parametrize("cookie", [None, "assay_1=x", "wrong", "empty", "other port"])
def test_nothing_without_the_cookie(server: Serving, path: str, cookie: str | None):
    name = server.cookie.partition("=")[0]
    value = server.cookie.partition("=")[2]
    wrong = {"wrong": f"{name}={'x' * 43}", "empty": f"{name}=", "other port": f"assay_1={value}"}
    answer = server.ask("GET", path, cookie=wrong.get(cookie or "", cookie))
    assert answer.status == 401
    assert b"assay review" in answer.body


@pytest.mark.parametrize("query", ["token=", "token=x", "token={token}x", "token={token}&token={token}", "token=%00"])
def test_a_wrong_token_opens_nothing(server: Serving, query: str):
    answer = server.ask("GET", f"/?{query.format(token=server.token)}", cookie=None)
    assert answer.status == 401
    assert "set-cookie" not in answer.headers
    assert server.ask("GET", f"/?{query.format(token=server.token)}").status == 401


def test_the_token_becomes_a_cookie_by_a_redirect_to_the_constant_root(server: Serving):
    answer = server.ask("GET", f"/?token={server.token}&next=//evil.example/", cookie=None)
    assert (answer.status, answer.headers["location"]) == (303, "/")
    name, _, rest = answer.headers["set-cookie"].partition("=")
    assert name == f"assay_{server.port}"
    value, *flags = rest.split("; ")
    assert set(flags) == {"HttpOnly", "SameSite=Strict", "Path=/"}
    assert value != server.token
    assert len(value) >= 43


@pytest.mark.parametrize(
    "path", ["//evil.example/?token={0}", "/\\evil.example?token={0}", "//?token={0}", "/%2f/?token={0}"]
)
def test_no_open_redirect(server: Serving, path: str):
    for cookie in (None, ""):
        answer = server.ask("GET", path.format(server.token), cookie=cookie)
        assert answer.status in (401, 404)
        assert "location" not in answer.headers


def test_a_token_is_random_at_each_start(server: Serving, evil_server: Serving):
    assert server.token != evil_server.token
    assert evil_server.ask("GET", f"/?token={server.token}", cookie=None).status == 401
    assert evil_server.ask("GET", "/api/session", cookie=server.cookie).status == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost:1", "[::1]:{port}", "[::1]",
             "127.0.0.1:{port}.evil.example", "evil.example#127.0.0.1:{port}", "", None],
)  # fmt: skip
def test_a_foreign_host_is_refused(server: Serving, host: str | None):
    answer = server.ask("GET", "/api/session", Host=None if host is None else host.format(port=server.port))
    assert answer.status in (400, 421)
    assert b"csrf" not in answer.body


def test_our_own_names_are_let_in(server: Serving):
    for host in (f"127.0.0.1:{server.port}", f"localhost:{server.port}"):
        assert server.ask("GET", "/api/session", Host=host).status == 200


def test_two_hosts_are_none(server: Serving):
    line = f"GET /api/session HTTP/1.1\r\nHost: {server.host}\r\nHost: evil.example\r\nCookie: {server.cookie}\r\n\r\n"
    assert server.raw(line.encode()).split()[1] in (b"400", b"421")


@pytest.mark.parametrize("target", ["http://evil.example/api/session", "http://{host}/api/session", "*", "evil"])
def test_an_absolute_request_line_is_refused(server: Serving, target: str):
    line = f"GET {target.format(host=server.host)} HTTP/1.1\r\nHost: {server.host}\r\nCookie: {server.cookie}\r\n\r\n"
    answer = server.raw(line.encode())
    assert answer.split()[1] in (b"400", b"404", b"421")
    assert b"csrf" not in answer


@pytest.mark.parametrize("origin", ["http://evil.example", "null", None, "", "http://127.0.0.1:1", "http://{host}.evil.example",
                                    "http://localhost:{port}", "https://evil.example"])  # fmt: skip
def test_a_post_from_elsewhere_is_refused(server: Serving, origin: str | None):
    given = None if origin is None else origin.format(host=server.host, port=server.port)
    answer = server.post("/api/decide", {"rows": [1], "action": "drop"}, Origin=given)
    assert answer.status == 403
    assert server.get("/api/sample/1").json["decision"] is None


def test_a_get_from_another_page_is_refused(server: Serving):
    assert server.get("/api/session", Origin="http://evil.example").status == 403
    for site in ("cross-site", "same-site"):
        assert server.get("/media/0", Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors").status == 403
        assert server.get("/api/session", Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate").status == 403
    assert server.get("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate").status == 200
    assert server.get("/media/0", Sec_Fetch_Site="same-origin", Sec_Fetch_Mode="no-cors").status == 200


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", "text/json", None,
             "application/json; charset=utf-16", "application/jsonp"],
)  # fmt: skip
def test_only_json_is_read(server: Serving, kind: str | None):
    assert server.post("/api/decide", {"rows": [1], "action": "drop"}, Content_Type=kind).status == 415
    form = server.post("/api/decide", b"rows=1&action=drop", Content_Type=kind)
    assert form.status == 415


@pytest.mark.parametrize("csrf", [None, "", "x", "1"])
def test_our_header_is_needed(server: Serving, csrf: str | None):
    assert server.post("/api/decide", {"rows": [1], "action": "drop"}, X_Assay=csrf).status == 403


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "HEAD"])
def test_other_methods_are_not_answered(server: Serving, method: str):
    answer = server.ask(method, "/api/session" if method != "CONNECT" else "evil.example:80")
    assert answer.status in ((200, 405) if method == "HEAD" else (400, 404, 405))
    assert not any(name.lower().startswith("access-control") for name in answer.headers)


@pytest.mark.parametrize(
    "path", ["/api/decide", "/api/undo", "/api/user", "/api/keys", "/api/decide-region", "/api/export"]
)
def test_get_changes_nothing(server: Serving, path: str):
    assert server.get(f"{path}?rows=1&action=drop").status == 405
    assert server.get("/api/recent").json == []


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e/app.py", "/static/%2e%2e%2fapp.py",
        "/static/..%5capp.py", "/static/..\\app.py", "/static/....//app.py", "/static/%252e%252e%252fapp.py",
        "/static//etc/passwd", "/static/%2fetc%2fpasswd", "/static/review.js%00.css", "/media/..%2f..%2fetc%2fpasswd",
        "/media/0/../../etc/passwd", "/media/%30%2f..", "/media/0x1", "/media/1.0", "/media/-1", "/media/1e3",
        "/media/9223372036854775808", "/media/1797", "/media/%D9%A1", "/media/_1", "/media/", "/api/sample/1;2",
    ],
)  # fmt: skip
def test_paths_go_nowhere(server: Serving, path: str):
    answer = server.get(path)
    assert answer.status in (400, 404)
    assert b"root:" not in answer.body
    assert b"import" not in answer.body


def test_every_answer_is_hardened(server: Serving):
    for path in (*PATHS, "/nothing", "/api/nothing", "/api/queue?low=x"):
        for cookie in ("", None):
            headers = server.ask("GET", path, cookie=cookie).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["cross-origin-resource-policy"] == "same-origin"
            assert "server" not in headers
            assert not any(name.lower().startswith("access-control") for name in headers)
            assert "public" not in headers["cache-control"]


def test_a_large_body_is_refused_before_it_is_read(server: Serving):
    usual = f"POST /api/decide HTTP/1.1\r\nHost: {server.host}\r\nCookie: {server.cookie}\r\nOrigin: http://{server.host}\r\n"
    usual += f"X-Assay: {server.csrf}\r\nContent-Type: application/json\r\n"
    for length in ("104857600", "-1", "1" * 30):
        assert server.raw(f"{usual}Content-Length: {length}\r\n\r\n".encode()).split()[1] in (b"413", b"400")
    chunked = f"{usual}Transfer-Encoding: chunked\r\n\r\n".encode()
    assert server.raw(chunked + (b"100000\r\n" + b" " * 0x100000 + b"\r\n") * 2).split()[1] == b"413"
    assert server.post("/api/decide", b" " * (1 << 20) + b"x").status == 413


def test_ranges_are_not_read(server: Serving):
    answer = server.get("/static/review.js", Range="bytes=" + ",".join(f"{k}-{k}" for k in range(10_000)))
    assert answer.status in (200, 400, 431)
    if answer.status == 200:
        assert answer.body == server.get("/static/review.js").body


def test_a_name_is_kept_in_a_cookie(server: Serving):
    answer = server.post("/api/user", {"name": "Zoë; Path=/x <b>"})
    assert answer.status == 200
    cookie, *flags = answer.headers["set-cookie"].split("; ")
    assert {flag.lower() for flag in flags} == {"httponly", "samesite=strict", "path=/"}
    session = server.get("/api/session", Cookie=f"{server.cookie}; {cookie}").json
    assert session["user"] == "Zoë; Path=/x <b>"
    assert server.get("/api/session").json["user"] == "ann"


def test_errors_tell_no_path(server: Serving, evil_server: Serving, evil_audit):
    said: list[bytes] = []
    for path in ("/nothing", "/api/nothing", "/media/99999", "/api/sample/99999", "/api/regions", "/api/cut?row=0"):
        said.append(server.get(path).body)
    data = evil_audit.with_name("data.parquet")
    hidden = data.rename(data.with_name("hidden.parquet"))
    try:
        with serving(evil_audit) as fresh:
            said += [
                fresh.get(path).body for path in ("/api/sample/0", "/api/why/0", "/media/0", "/api/regions", "/api/map")
            ]
            assert "data.parquet does not exist" in fresh.get("/api/why/0").json["error"]
            sample = fresh.get("/api/sample/0").json
            assert sample["fields"] == []
            assert "data.parquet" in sample["missing"]
            assert fresh.get("/api/queue?limit=3").json["total"] == 240
            exported = fresh.post("/api/export", {"format": "parquet", "to": "a"})
            assert exported.status == 422
            said.append(exported.body)
    finally:
        hidden.rename(data)
    for body in said:
        assert not re.search(rb"/(tmp|home|root|usr|work)/|\.py\b|Traceback", body), body


def test_another_address_needs_names(evil_audit, capfd):
    from assay.cli import app

    with pytest.raises(SystemExit) as ended:
        app(["review", str(evil_audit), "--host", "0.0.0.0", "--no-browser"])
    assert ended.value.code == 1
    said = capfd.readouterr().err
    assert "--allowed-host" in said
    assert "ssh -L" in said


def test_an_allowed_host_is_let_in(evil_audit):
    with serving(evil_audit, "--host", "0.0.0.0", "--allowed-host", "lab.example") as server:
        for host, status in ((f"lab.example:{server.port}", 200), ("lab.example", 200), ("evil.example", 421)):
            assert server.ask("GET", "/api/session", Host=host).status == status


def test_ctrl_c_ends_it_cleanly(evil_audit):
    with serving(evil_audit) as server:
        server.get("/api/sample/0")
        said = server.end()
        assert server.process.returncode == 0
        assert "Traceback" not in said
        assert "ssh -L" in said
