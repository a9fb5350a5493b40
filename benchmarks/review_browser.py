"""How long does an expert wait for the review page: for 200 thumbnails, and from a key to its confirmation?

The digits with 5 % flips, `assay review` in its own process, Debian's Chromium (headless, software rendering) at a size
that shows 200 thumbnails at once. A key's time runs from the browser's keydown to the frame in which the cell says that
it is saved: the decision is on disk then. A page that Starlette answers with a constant is loaded by the same browser.

    python benchmarks/review_browser.py
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import median, quantiles

from playwright.sync_api import Browser, Page, sync_playwright
from record import record, spread

from review import ASSAY, BARE

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
SIZE = {"width": 2300, "height": 2300}
SEEN = """() => {
  const grid = document.getElementById("grid").getBoundingClientRect();
  const inSight = ({ top, bottom }) => bottom > grid.top && top < grid.bottom;
  const cells = [...document.querySelectorAll(".cell")].filter((cell) => inSight(cell.getBoundingClientRect()));
  const drawn = cells.map((cell) => cell.querySelector("img")).filter((image) => image.complete && image.naturalWidth);
  return [cells.length, drawn.length];
}"""
WATCH = """() => {
  window.waits = [];
  const pressed = [];
  const cells = document.getElementById("cells");
  document.addEventListener("keydown", () => pressed.push(performance.now()), true);
  new MutationObserver((changes) => {
    for (const { target } of changes) {
      if (target.dataset?.state !== "saved" || target.timed) continue;
      target.timed = true;
      const start = pressed.shift();
      requestAnimationFrame(() => window.waits.push(performance.now() - start));
    }
  }).observe(cells, { subtree: true, attributes: true, attributeFilter: ["data-state"] });
}"""
KEYS = 60
BURST = 30


class Server:
    """`assay review` in its own process."""

    def __init__(self, audit: Path) -> None:
        self.audit = audit
        command = [ASSAY, "review", str(audit), "--no-browser", "--user", "bench"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        found = re.search(r"http://\S+", self.process.stdout.readline())
        assert found is not None
        self.url = found[0]

    def decisions(self) -> int:
        with closing(sqlite3.connect(self.audit / "decisions.sqlite")) as file:
            return file.execute("SELECT count(*) FROM decisions").fetchone()[0]

    def end(self) -> None:
        self.process.terminate()
        self.process.wait()


def painted(page: Page, url: str) -> tuple[float, int]:
    """Seconds from the address to every thumbnail in sight, and how many these are."""
    start = time.perf_counter()
    page.goto(url)
    page.wait_for_selector(".cell")
    while True:
        seen, drawn = page.evaluate(SEEN)
        if seen and seen == drawn:
            page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
            return time.perf_counter() - start, seen
        time.sleep(0.01)


def one_by_one(page: Page) -> list[float]:
    """Milliseconds from key to confirmation, each pressed when the one before was confirmed."""
    page.evaluate(WATCH)
    for turn in range(KEYS):
        page.keyboard.press("kd"[turn % 2])
        while page.evaluate("() => window.waits.length") <= turn:
            time.sleep(0.005)
        time.sleep(0.05)  # an expert looks
    return page.evaluate("() => window.waits")


def burst(page: Page, server: Server) -> tuple[int, float]:
    """Decisions on disk of `BURST` keys pressed without waiting, and the milliseconds until all are confirmed."""
    before, start = server.decisions(), time.perf_counter()
    for turn in range(BURST):
        page.keyboard.press("kd"[turn % 2])
    page.wait_for_selector("body[data-waiting='0']")
    return server.decisions() - before, 1000 * (time.perf_counter() - start)


def bare(browser: Browser, port: int = 18_735) -> float:
    """Seconds of the constant page in the same browser."""
    process = subprocess.Popen([sys.executable, "-c", BARE, str(port)])
    try:
        time.sleep(2)
        page = browser.new_page()
        times = []
        for _ in range(10):
            start = time.perf_counter()
            page.goto(f"http://127.0.0.1:{port}/")
            times.append(time.perf_counter() - start)
        page.close()
        return median(times)
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert chromium, "apt-get install chromium"
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        subprocess.run([ASSAY, "demo", "digits"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        server = Server(Path(folder) / "audit-digits")
        try:
            constant = bare(browser)
            first, count = painted(browser.new_page(viewport=SIZE), server.url)
            loads, url = [], server.url.partition("?")[0] + "?queue=all"
            context = browser.new_context(viewport=SIZE)
            for _ in range(5):  # a new browser each time: no picture is in a cache
                context.close()
                context = browser.new_context(viewport=SIZE)
                page = context.new_page()
                page.goto(server.url)
                page.goto("about:blank")
                seconds, count = painted(page, url)
                loads.append(seconds)
            again, _ = painted(page, url)
            waits = one_by_one(page)
            kept, took = burst(page, server)
        finally:
            server.end()
            browser.close()
    p95 = quantiles(waits, n=20)[-1]
    record(
        "The review page in a browser",
        "Digits, 5 % flipped; every thumbnail in sight painted, and a key until its cell says saved (on disk). Wanted: "
        "under 2 s; p50 under 100 ms (goal 60), p95 under 200 ms; 30 keys in a burst lose none.",
        ["what", "measured", "× constant page"],
        [
            ["constant page of Starlette", f"{1000 * constant:.0f} ms", 1],
            [f"first visit after the start, {count} thumbnails", f"{first:.2f} s", round(first / constant)],
            [
                f"{count} thumbnails, none in the browser's cache",
                f"{spread(loads)} s",
                round(median(loads) / constant),
            ],
            [f"{count} thumbnails again", f"{again:.2f} s", round(again / constant)],
            [f"key to confirmation, p50 of {len(waits)}", f"{median(waits):.0f} ms", ""],
            ["key to confirmation, p95", f"{p95:.0f} ms", ""],
            [f"burst of {BURST} keys: decisions on disk", str(kept), ""],
            ["burst: until all are confirmed", f"{took:.0f} ms", ""],
        ],
        [
            "Headless Chromium on the same two cores as the server; the first visit waits for what renders.",
            f"Load of the machine at the end: {os.getloadavg()[0]:.1f}.",
        ],
    )


if __name__ == "__main__":
    main()
