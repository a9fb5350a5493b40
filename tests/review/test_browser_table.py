"""A table like the paper's: a region decided on by the expert, undone, exported; cuts with sliders."""

import numpy as np
import pyarrow as pa
import pyarrow.csv as pv
import pytest
from browsing import log, served, until, visit

import assay
from assay.datasets.hcas import ADVISORIES, HCAS, policy

TAUS = (0, 10, 20)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A collision-avoidance table solved on a coarse grid, audited by its own columns, served."""
    small = HCAS(rho=(0.0, 200.0, 500.0, 1000.0, 2000.0, 4000.0, 7000.0, 11000.0), angles=9)
    solved = small.solve(range(TAUS[-1] + 1))
    advice = np.concatenate([policy(solved[tau].reshape(len(small.states), 5, 5)[:, 0]) for tau in TAUS])
    columns = dict(zip(("rho", "theta", "psi"), np.tile(small.states, (len(TAUS), 1)).T, strict=True))
    columns["tau"] = np.repeat(np.array(TAUS, float), len(small.states))
    table = pa.table(columns | {"advisory": [ADVISORIES[code] for code in advice]})
    audit = assay.audit(
        table, label="advisory", features=list(columns), out=tmp_path_factory.mktemp("hcas") / "audit-hcas"
    )
    with served(audit.path, tmp_path_factory.mktemp("served")) as found:
        yield found


def test_a_region_is_decided_undone_and_exported(page, server):
    visit(page, "/regions")
    page.wait_for_selector(".region")
    first = page.locator(".region").first
    rule = first.locator("h3").inner_text()
    first.locator("button.filter").click()
    page.wait_for_selector(".region .standing[data-action=filter]:has-text('region_is_decided')")
    page.keyboard.press("z")
    until(page, "document.querySelector('.region .standing').textContent === 'open'")
    first.locator("button.collect").click()
    page.wait_for_selector(".region .standing[data-action=collect]:has-text('important')")
    page.reload()
    page.wait_for_selector(".region .standing[data-action=collect]:has-text('region_is_decided')")
    assert [one["action"] for one in log(server)] == ["filter", "undo", "collect"]
    visit(page, "/export")
    page.check("input[value=needs]")
    page.click("#write")
    page.wait_for_selector("#result[data-state=done]")
    needs = pv.read_csv(server.audit.with_name("audit-hcas-export") / "needs_data.csv")
    assert rule in needs.to_pandas().astype(str).to_string(max_colwidth=None)


def test_a_cut_follows_the_sliders(page):
    visit(page, "/?queue=all")
    page.wait_for_selector("a.cut")
    page.click("a.cut")
    page.wait_for_selector("#cut[data-drawn*='svg']")
    before = page.get_attribute("#cut", "data-drawn")
    width = page.evaluate("document.getElementById('cut').naturalWidth")
    assert width > 100
    assert page.locator("#sliders li").count() == 2
    page.locator("#sliders input").first.focus()
    page.keyboard.press("ArrowRight")
    until(page, f"!['', {before!r}].includes(document.getElementById('cut').dataset.drawn)")
    page.select_option("#x", "tau")
    until(page, "document.getElementById('cut').dataset.drawn.includes('x=tau')")


def test_a_row_shows_its_values_and_their_places(page):
    visit(page, "/?queue=all")
    page.wait_for_selector("table.fields")
    assert [text.strip() for text in page.locator("table.fields th").all_inner_texts()][:3] == ["rho", "theta", "psi"]
    assert page.locator("table.fields .place").count() >= 4
