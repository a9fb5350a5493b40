"""Several experts, a server that dies, one that is started anew: nothing acknowledged is lost or overwritten."""

import pytest
from browsing import (
    cell,
    current,
    enter,
    expert,
    log,
    saved,
    served,
    until,
    visit,
)


@pytest.fixture
def server(digits_audit, tmp_path):
    with served(digits_audit.path, tmp_path) as found:
        yield found


def test_two_experts_differ_and_the_conflict_is_resolved(browser, server):
    with expert(browser, server, "Ann") as ann, expert(browser, server, "Bob") as bob:
        for page in (ann, bob):
            visit(page, "/?queue=mislabeled&status=open")
        row = current(ann)
        assert current(bob) == row
        ann.keyboard.press("k")
        saved(ann)
        bob.keyboard.press("r")
        saved(bob)
        bob.wait_for_selector(f"{cell(row)}[data-state=conflict]")
        bob.wait_for_selector(".notice:has-text('otherwise')")
        visit(ann, "/?queue=conflicts")
        assert current(ann) == row
        ann.wait_for_selector(".history li:has-text('Ann') >> text=keep")
        ann.wait_for_selector(".history li:has-text('Bob') >> text=relabel")
        ann.keyboard.press("d")
        saved(ann)
        ann.wait_for_selector(f"{cell(row)}[data-state=saved][data-action=drop]")
        made = [(one["who"], one["row"], one["action"]) for one in log(server)]
        assert made == [("Ann", row, "keep"), ("Bob", row, "relabel"), ("Ann", row, "drop")]
        visit(bob, "/?queue=conflicts")
        bob.wait_for_selector("#empty:not([hidden])")


def test_every_acknowledged_decision_survives_a_kill_and_the_rest_is_sent_again(browser, server):
    with expert(browser, server, "Ann") as page:
        visit(page, "/?queue=boundary&status=open")
        acknowledged = []
        page.on("response", lambda answer: acknowledged.append(answer.url) if answer.ok else None)
        rows = []
        for turn in range(40):
            rows.append(current(page))
            page.keyboard.press("d" if turn % 2 else "k")
            if turn == 20:
                server.kill()
        until(page, "!document.getElementById('stalled').hidden")
        waiting = int(page.evaluate("document.body.dataset.waiting"))
        assert 0 < waiting < 40
        assert len([url for url in acknowledged if url.endswith("/api/decide")]) >= 40 - waiting - 1
        server.start()
        enter(page, server)  # the same tab: what waited in it is sent now
        saved(page)
        made = [(one["row"], one["action"]) for one in log(server)]
        assert made == list(zip(rows, ["keep", "drop"] * 20, strict=True))


def test_a_restart_keeps_the_place(browser, server):
    with expert(browser, server, "Ann") as page:
        visit(page, "/?queue=all")
        for _ in range(7):
            page.keyboard.press("ArrowRight")
        row = current(page)
        page.keyboard.press("k")
        page.wait_for_selector(f"{cell(row)}[data-state=saved]")
        page.keyboard.press("ArrowRight")
        place = current(page)
        page.wait_for_url(f"**row={place}*")
        server.kill()
        server.start()
        enter(page, server)
        assert current(page) == place
        visit(page, f"/?queue=all&row={row}")
        page.wait_for_selector(f"{cell(row)}[data-state=saved][data-action=keep]")
