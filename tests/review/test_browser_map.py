"""The map: points to go to by pointer and by keys, each opening its sample; dialogs and pages by keyboard alone."""

import re

import pytest
from browsing import current, served, until, visit


@pytest.fixture(scope="module")
def server(digits_audit, tmp_path_factory):
    with served(digits_audit.path, tmp_path_factory.mktemp("map")) as found:
        yield found


def test_a_point_opens_its_sample(page):
    visit(page, "/map")
    page.wait_for_selector("body[data-ready=yes]")
    assert page.locator("#legend li").count() == 10
    page.focus("#map")
    for key in ("+", "ArrowRight", "ArrowUp", "ArrowLeft"):
        page.keyboard.press(key)
    page.wait_for_selector("#tip:not([hidden])")
    row = page.locator("#tip p").inner_text().split()[1]
    page.keyboard.press("Enter")
    page.wait_for_url(f"**row={row}*")
    page.wait_for_selector(".cell")
    assert current(page) == int(row)


def test_hidden_classes_and_kinds_are_not_hit(page):
    visit(page, "/map")
    page.wait_for_selector("body[data-ready=yes]")
    page.click("#none")
    page.focus("#map")
    page.keyboard.press("ArrowRight")
    assert page.locator("#tip").is_hidden()
    page.click("#all")
    page.check("#only")
    for i in range(3):
        page.locator("#ringed input").nth(i).uncheck()
    page.focus("#map")
    page.keyboard.press("ArrowRight")
    assert page.locator("#tip").is_hidden()


def test_everything_is_reached_by_the_tab_key(page):
    visit(page, "/?queue=mislabeled&status=open")
    page.wait_for_selector("#confusion button")
    wanted = {"theme", "user", "f-status", "f-given", "f-low", "grid", "note"}
    seen = set()
    page.focus("body")
    for _ in range(90):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.id || document.activeElement.dataset.actionKey || ''"))
    assert wanted | {"keep", "relabel", "drop", "undo", "help", "rank"} <= seen


def test_a_pair_of_the_matrix_filters_the_list(page):
    visit(page, "/?queue=mislabeled&status=open")
    page.wait_for_selector("#confusion button")
    button = page.locator("#confusion button").first
    words = button.get_attribute("aria-label")
    button.click()
    page.wait_for_selector("#confusion button[aria-pressed=true]")
    until(page, "!document.getElementById('grid').hasAttribute('aria-busy')")
    given, suggested, count = re.fullmatch(r"given (\d), suggested (\d): (\d+)", words).groups()
    assert page.locator(".cell").count() == int(count)
    assert set(page.locator(".cell .given bdi").all_inner_texts()) == {given}
    assert set(page.locator(".cell .suggested bdi").all_inner_texts()) == {suggested}
