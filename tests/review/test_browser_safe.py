"""Whatever the data say is text; nothing leaves the machine; the pages are for everyone."""

from pathlib import Path

import axe_playwright_python
import numpy as np
import pyarrow as pa
import pytest
from browsing import expert, served, until, visit

import assay

SCRIPT = "<script>document.title='run'</script>"
IMAGE = '"><img src=x onerror="document.title=\'run\'">'
CLASSES = [f"{SCRIPT}cat", f"{IMAGE}dog", "{{ 7*7 }}</script><b>bird ‮"]
PAGES = ["/?queue=all", "/map", "/regions", "/export"]
AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text("utf-8")
SERIOUS = {"serious", "critical"}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """An audit of a table whose ids, class names, column names and texts are all script."""
    generator = np.random.default_rng(0)
    n = 240
    X, y = generator.normal(size=(n, 3)), generator.integers(0, 3, n)
    X[np.arange(n), y] += 2.5
    columns = {f"{IMAGE}{j}": X[:, j] for j in range(3)}
    table = pa.table(
        columns
        | {"id": [f"{SCRIPT}{i}" for i in range(n)], f"{SCRIPT}y": [CLASSES[code] for code in y], "text": [IMAGE] * n}
    )
    audit = assay.audit(
        table, label=f"{SCRIPT}y", features=list(columns), id="id", out=tmp_path_factory.mktemp("hostile") / "audit"
    )
    with served(audit.path, tmp_path_factory.mktemp("served")) as server:
        yield server


def test_script_in_the_data_is_shown_as_text(browser, hostile):
    with expert(browser, hostile, f"{SCRIPT}Ann") as page:
        for path in PAGES:
            visit(page, path)
            page.wait_for_timeout(1500)
            assert page.title() != "run"
            assert page.locator("b:has-text('bird'), img[src=x]").count() == 0
            assert page.evaluate("document.scripts.length") == 3
        visit(page, "/?queue=all")
        page.keyboard.press("k")
        page.fill("#note", IMAGE)
        page.press("#note", "Enter")
        page.keyboard.press("d")
        page.wait_for_selector("#recent li:nth-child(2)")
        page.keyboard.press("/")
        page.keyboard.type("<script")
        page.wait_for_selector("#found li")
        page.keyboard.press("Escape")
        assert (
            SCRIPT in page.locator(".cell .caption").first.inner_text() + page.locator(".cell .id").first.inner_text()
        )
        page.wait_for_selector("table.fields")
        assert IMAGE in page.locator("table.fields").inner_text()
        assert page.title() != "run"


def test_no_request_leaves_the_machine(browser, hostile):
    with expert(browser, hostile, "Ann") as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        for path in PAGES:
            visit(page, path)
            page.wait_for_timeout(1000)
        for key in ["?", "Escape", "/", "Escape", "e", "ArrowRight", "k", "z"]:
            page.keyboard.press(key)
        assert len(asked) > 20
        assert [url for url in asked if not url.startswith((hostile.address + "/", "data:"))] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser, hostile, scheme):
    with expert(browser, hostile, "Ann", color_scheme=scheme) as page:
        for path in PAGES:
            visit(page, path)
            page.wait_for_timeout(1500)
            clean(page, f"{path} {scheme}")
        visit(page, "/?queue=all")
        page.keyboard.press("k")
        until(page, "document.querySelector('.cell[data-state=saved]') !== null")
        for key in ["?", "/", "g"]:
            page.keyboard.press(key)
            clean(page, f"dialog {key} {scheme}")
            page.keyboard.press("Escape")


def clean(page, where: str) -> None:
    """axe-core has no finding; it is evaluated by the browser's debugger, which the page's policy does not bind."""
    page.evaluate(AXE)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    assert not [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found if one["impact"] in SERIOUS], where
