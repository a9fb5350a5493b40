"""`assay review` in a process of its own, and requests to it as any program may send them."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import assay

COMMAND = [sys.executable, "-c", "import assay.cli; assay.cli.app()", "review"]
EVIL = '<script>alert("x")</script>'
NAMES = [EVIL, "=1+1", "plain"]


class Answer:
    """Status, headers and body of an answer."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.body = answer.status, answer.headers, answer.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Serving:
    """A server, and the cookie and header of an expert who opened the address that it printed."""

    def __init__(self, audit: Path, *options: str, user: str | None = "ann") -> None:
        named = [] if user is None else ["--user", user]
        command = [*COMMAND, str(audit), "--no-browser", *named, *options]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.fullmatch(r"review +http://127\.0\.0\.1:(\d+)/\?token=(\S+)\n", line)
        assert found, line + self.end()
        self.port, self.token = int(found[1]), found[2]
        self.host = f"127.0.0.1:{self.port}"
        entered = self.ask("GET", f"/?token={self.token}", cookie=None)
        self.cookie = entered.headers["set-cookie"].partition(";")[0]
        self.csrf = self.get("/api/session").json["csrf"]

    def ask(
        self, method: str, path: str, body: Any = None, *, cookie: str | None = "", **headers: str | None
    ) -> Answer:
        """A request with exactly these headers, `_` in names as dashes; None leaves one out that is usual."""
        usual: dict[str, str | None] = {"Host": self.host, "Cookie": self.cookie if cookie == "" else cookie}
        given = {**usual, **{name.replace("_", "-"): value for name, value in headers.items()}}
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        if data is not None and "Content-Length" not in given:
            given["Content-Length"] = str(len(data))
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in given.items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders(data)
            with connection.getresponse() as response:
                return Answer(response)

    def get(self, path: str, **headers: str | None) -> Answer:
        return self.ask("GET", path, **headers)

    def post(self, path: str, body: Any, **headers: str | None) -> Answer:
        usual: dict[str, str | None] = {
            "Origin": f"http://{self.host}", "X_Assay": self.csrf, "Content_Type": "application/json",
        }  # fmt: skip
        return self.ask("POST", path, body, **{**usual, **headers})

    def raw(self, request: bytes) -> bytes:
        """Bytes as they are, and the first of the answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall(request)
            return connection.recv(65_536)

    def kill(self) -> None:
        """SIGKILL for the server and its workers."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def end(self) -> str:
        """Ctrl-C; returns what was said on stderr."""
        self.process.send_signal(signal.SIGINT)
        return self.process.communicate(timeout=60)[1]


@contextmanager
def serving(audit: Path, *options: str, user: str | None = "ann") -> Iterator[Serving]:
    server = Serving(audit, *options, user=user)
    try:
        yield server
    finally:
        server.kill()


def audited(path: Path, folder: Path, **options: Any) -> Path:
    """The folder of a small audit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", assay.AssayWarning)
        return assay.audit(path, l2=1e-2, out=folder, **options).path


@pytest.fixture(scope="session")
def evil_audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table whose names, classes, ids and texts are what an attacker would put there."""
    folder = tmp_path_factory.mktemp(f"evil & <b>{'x' * 9}")
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 240)
    X = rng.normal(size=(240, 3)) + 3 * np.eye(3)[truth]
    shown = np.where(rng.random(240) < 0.05, (truth + 1) % 3, truth)
    table = {
        "f0": X[:, 0], f"f{EVIL}": X[:, 1], "f=cmd()": X[:, 2], "label": pa.array(NAMES).take(pa.array(shown)),
        "id": [f"{EVIL}{k}" for k in range(240)], f"note {EVIL}": [f"=HYPERLINK({k}) {EVIL}" for k in range(240)],
    }  # fmt: skip
    pq.write_table(pa.table(table), folder / "data.parquet")
    return audited(folder / "data.parquet", folder / "audit", features="f*", label="label", id="id")


@pytest.fixture(scope="session")
def digits_server(digits_audit: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """The digits under review; tests decide on samples of their own."""
    copied = shutil.copytree(digits_audit.path, tmp_path_factory.mktemp("served") / "digits")
    with serving(Path(copied)) as server:
        yield server


@pytest.fixture(scope="session")
def evil_server(evil_audit: Path) -> Iterator[Serving]:
    with serving(evil_audit) as server:
        yield server
