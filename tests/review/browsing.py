"""A real server and a real browser: what the tests of the review page stand on. What is missing is said."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

try:
    from playwright.sync_api import Browser, Page, sync_playwright
except ModuleNotFoundError:  # pragma: no cover
    pytest.fail("the browser tests need playwright: `make install`, or pip install playwright", pytrace=False)

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
ASSAY = "import assay.cli; assay.cli.app()"
WIDE = {"width": 1280, "height": 720}
PATIENCE = 120_000  # ms: another test may have the machine


def chromium() -> str:
    """Where Chromium is; fails the test with what to install."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not found:
        pytest.fail("the browser tests need Chromium: apt-get install chromium (or set CHROMIUM)", pytrace=False)
    return found


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = chromium()
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield started
        started.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


class Server:
    """`assay review AUDIT` in a process of its own, to be killed and started again at the same port."""

    def __init__(self, audit: Path) -> None:
        self.audit, self.port = audit, free_port()
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-c", ASSAY, "review", str(self.audit), "--port", str(self.port), "--no-browser"]
        said = self.audit.with_name("server.txt")
        with said.open("wb") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
        for _ in range(600):
            if (found := re.search(r"http://\S+token=\S+", said.read_text("utf-8"))) or self.process.poll() is not None:
                break
            time.sleep(0.05)
        else:
            self.kill()
        assert found, f"the server did not say where it is: {said.read_text('utf-8')}"
        self.token = found[0]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        """SIGKILL for the server and all that it started: nothing is written any more."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def served(audit: Path, folder: Path) -> Iterator[Server]:
    """A copy of the audit, served."""
    server = Server(Path(shutil.copytree(audit, folder / audit.name)))
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def expert(browser: Browser, server: Server, name: str, **options: Any) -> Iterator[Page]:
    """The review page in a browser of its own, under the name of an expert; its errors fail the test."""
    context = browser.new_context(**{"viewport": WIDE, "base_url": server.address, **options})
    context.set_default_timeout(PATIENCE)
    try:
        page = context.new_page()
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        enter(page, server)
        introduce(page, name)
        yield page
        assert not wrong
    finally:
        context.close()


@pytest.fixture
def page(browser: Browser, server: Server, request: pytest.FixtureRequest) -> Iterator[Page]:
    """An expert of this test's own, by its name, at the `server` of the test's module."""
    with expert(browser, server, request.node.name[-40:]) as found:
        yield found


def enter(page: Page, server: Server) -> None:
    page.goto(server.token)
    page.wait_for_selector(".cell, #empty:not([hidden])")


def introduce(page: Page, name: str) -> None:
    page.wait_for_selector("#ask-user[open]")
    page.fill("#ask-user input", name)
    page.press("#ask-user input", "Enter")
    page.wait_for_selector(f"#user:has-text({name!r})")


def visit(page: Page, path: str) -> None:
    """A page by its address; the list is there where it has one."""
    page.goto(path)
    if path.startswith("/?") or path == "/":
        page.wait_for_selector(".cell, #empty:not([hidden])")


def until(page: Page, expression: str) -> None:
    """Waits for JavaScript to be true; the page's policy forbids what `wait_for_function` does."""
    end = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"not true in {PATIENCE / 1000:.0f} s: {expression}"
        time.sleep(0.02)


def current(page: Page) -> int:
    """The row of the sample that the next key decides on."""
    return int(page.evaluate("document.getElementById('grid').getAttribute('aria-activedescendant').slice(5)"))


def saved(page: Page) -> None:
    """Every decision made so far was confirmed."""
    page.wait_for_selector("body[data-waiting='0']")


def log(server: Server) -> list[dict[str, Any]]:
    """Every decision on the disk, oldest first, as another program reads them."""
    with closing(sqlite3.connect(f"file:{server.audit / 'decisions.sqlite'}?mode=ro", uri=True)) as file:
        file.row_factory = sqlite3.Row
        return [dict(one) for one in file.execute("SELECT * FROM decisions ORDER BY seq")]


def standing(server: Server) -> dict[int, str]:
    """Row → the action that stands, of the rows ever decided on; "open" where it was taken back."""
    with closing(sqlite3.connect(f"file:{server.audit / 'decisions.sqlite'}?mode=ro", uri=True)) as file:
        return dict(file.execute("SELECT row, action FROM standing"))


def cell(row: int) -> str:
    return f"#cell-{row}"
