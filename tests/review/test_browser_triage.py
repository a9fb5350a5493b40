"""Triage by keyboard in a real browser: decisions, undo, bursts, ranges, and where the expert was."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from browsing import cell, current, expert, log, saved, served, standing, until, visit

from assay.datasets.digits import digits

MANY = 200


@pytest.fixture(scope="module")
def server(digits_audit, tmp_path_factory):
    with served(digits_audit.path, tmp_path_factory.mktemp("triage")) as found:
        yield found


def test_a_burst_of_keys_loses_none_and_keeps_their_order(page, server):
    visit(page, "/?queue=boundary&status=open")
    before = len(log(server))
    rows = []
    for key in "kdmukdmukdmukdmukdmukdmukdmukd":
        rows.append(current(page))
        page.keyboard.press(key)
    saved(page)
    names = {"k": "keep", "d": "drop", "m": "collect", "u": "unsure"}
    assert len(set(rows)) == 30
    made = [(one["row"], one["action"]) for one in log(server)[before:]]
    assert made == [(row, names[key]) for row, key in zip(rows, "kdmu" * 8, strict=False)]


def test_undo_goes_on_after_a_reload(page, server):
    visit(page, "/?queue=under-represented&status=open")
    rows = []
    for key in "kdk":
        rows.append(current(page))
        page.keyboard.press(key)
    saved(page)
    page.reload()
    page.wait_for_selector(".cell")
    for row in reversed(rows):
        page.keyboard.press("z")
        until(page, f"document.getElementById('grid').getAttribute('aria-activedescendant') === 'cell-{row}'")
        saved(page)
        page.wait_for_selector(f"{cell(row)}[data-state=open]")
        assert standing(server).get(row, "open") == "open"


def test_a_range_is_counted_decided_and_undone_at_once(page):
    visit(page, "/?queue=under-represented&status=open")
    first = current(page)
    for _ in range(4):
        page.keyboard.press("Shift+ArrowRight")
    page.wait_for_selector("#range:has-text('5 chosen')")
    page.keyboard.press("d")
    page.wait_for_selector("#sure-title:has-text('5 samples: drop')")
    page.keyboard.press("Enter")
    saved(page)
    until(page, "document.querySelectorAll('.cell[data-action=drop][data-state=saved]').length === 5")
    page.keyboard.press("z")
    until(page, "document.querySelectorAll('.cell[data-action=drop]').length === 0")
    assert current(page) == first


def test_a_reload_keeps_queue_filters_and_sample(page):
    visit(page, "/?queue=all&status=open")
    page.select_option("#f-given", "3")
    until(page, "!document.querySelector('#grid').hasAttribute('aria-busy')")
    page.press("#grid", "s")
    for _ in range(8):
        page.keyboard.press("ArrowRight")
    row = current(page)
    page.wait_for_url(f"**row={row}*")
    page.reload()
    page.wait_for_selector(cell(row))
    assert current(page) == row
    assert page.input_value("#f-given") == "3"
    assert {text.strip() for text in page.locator(".cell .given bdi").all_inner_texts()} == {"3"}


def test_a_key_can_be_changed_and_the_help_says_it(page, server):
    page.keyboard.press("?")
    page.click("#help button:has-text('K')")
    page.keyboard.press("b")
    page.wait_for_selector("#help button:text-is('B')")
    page.keyboard.press("Escape")
    row = current(page)
    page.keyboard.press("k")  # does nothing any more
    page.keyboard.press("b")
    saved(page)
    assert standing(server)[row] == "keep"
    page.reload()
    page.wait_for_selector(".acts .keep kbd:text-is('B')")
    page.keyboard.press("z")
    saved(page)


def test_a_class_is_found_by_typing_and_a_rank_by_number(page, server):
    visit(page, "/?queue=mislabeled&status=open")
    row = current(page)
    page.keyboard.press("/")
    page.keyboard.type("8")
    page.keyboard.press("Enter")
    saved(page)
    assert [log(server)[-1][name] for name in ("row", "label")] == [row, '"8"']
    page.keyboard.press("z")
    saved(page)
    page.keyboard.press("g")
    page.keyboard.type("12")
    page.keyboard.press("Enter")
    page.wait_for_selector("#place:has-text('rank 12')")


def test_the_page_holds_few_cells_however_far_one_goes(page):
    visit(page, "/?queue=all")
    place = "Number(document.getElementById('place').textContent.replace(/\\D/g, ''))"
    for _ in range(1_000):  # where the list is still being read a key does nothing
        page.keyboard.press("PageDown")
        page.wait_for_timeout(20)
        if page.evaluate(place) > 500:
            break
    until(page, f"{place} > 500")
    assert page.locator(".cell").count() < 120
    page.keyboard.press("Home")
    page.wait_for_selector("#place:text-is('rank 1')")


@pytest.mark.parametrize("wrong", [400, 409])
def test_a_refused_decision_comes_back(page, wrong):
    visit(page, "/?queue=mislabeled&status=open")
    row = current(page)
    refuse = lambda route: route.fulfill(status=wrong, json={"error": "the disk is full"})  # noqa: E731
    page.route("**/api/decide", refuse)
    page.keyboard.press("k")
    page.wait_for_selector(f"{cell(row)}[data-state=failed]")
    page.wait_for_selector(".notice:has-text('the disk is full')")
    assert current(page) != row
    page.unroute("**/api/decide", refuse)
    page.click(".notice button:has-text('go back to it')")
    assert current(page) == row
    page.keyboard.press("k")
    page.wait_for_selector(f"{cell(row)}[data-state=saved]")
    page.keyboard.press("z")
    saved(page)


def test_two_hundred_digits_are_triaged_by_keyboard_and_exported_mended(browser, digits_audit, tmp_path):
    """The expert knows the digits: keeps what is labelled rightly, presses the digit where not. 5 % were flipped."""
    data = digits(0.05, seed=0)
    with served(digits_audit.path, tmp_path) as server, expert(browser, server, "Ann") as page:
        seen = []
        for queue in ("mislabeled", "boundary"):
            visit(page, f"/?queue={queue}&status=open")
            for _ in range(110):
                row = current(page)
                if row in seen:  # the end of the list
                    break
                seen.append(row)
                page.keyboard.press("k" if data.labels[row] == data.truth[row] else str(data.truth[row]))
            saved(page)
        assert len(seen) >= MANY
        visit(page, "/export")
        page.click("#write")
        page.wait_for_selector("#result[data-state=done]")
        cleaned = pq.read_table(tmp_path / "audit-export" / "cleaned.parquet")
        mended = np.array(cleaned["corrected_label"].to_pylist(), int)
        assert cleaned["y"].to_pylist() == data.labels.tolist()  # the data's own labels stay beside
        wrong = np.flatnonzero(mended != data.truth)
        assert wrong.tolist() == np.setdiff1d(data.flipped, seen).tolist()
        assert len(wrong) <= 8 < len(data.flipped) == 90
