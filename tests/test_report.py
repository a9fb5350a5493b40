"""The page: one file, nothing from outside it, whatever the data say escaped, every figure and number there."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import assay
from assay.report import expected_recall, write_report

HOSTILE = ['<script>alert("x")</script>', '"><img src=x onerror=alert(1)>', "$\\frac{</svg><b>", "{{ 7*7 }} & -->"]
VOID = {"meta", "img", "link", "br", "input", "hr"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; raises where elements are not properly nested."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.source = path.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(self.source)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes in self.tags if attributes.get("id")]


@pytest.fixture(scope="session")
def page(digits_audit, tmp_path_factory) -> Page:
    return Page(write_report(digits_audit, tmp_path_factory.mktemp("report") / "digits.html"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Page:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, len(HOSTILE), 240)
    columns = {f"<i>x{j}</i>": rng.normal(size=240) + 2 * (codes == j) for j in range(4)}
    table = pa.table(
        {
            **columns,
            "y": [HOSTILE[k] for k in codes],
            "key": [f"<u>{i}</u>" for i in range(240)],
            "note": HOSTILE[:1] * 240,
        }
    )
    names = list(columns)
    folder = tmp_path_factory.mktemp("hostile")
    audit = assay.audit(table, label="y", id="key", features=names, l2=1e-2, out=folder / "<b>audit</b>")
    return Page(write_report(audit))


@pytest.fixture(scope="module")
def regression(tmp_path_factory) -> Page:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 3))
    Y = X @ rng.normal(size=(3, 2)) + 0.1 * rng.normal(size=(150, 2))
    Y[7] += 5
    table = pa.table({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "height": Y[:, 0], "mass": Y[:, 1]})
    audit = assay.audit(table, label=["height", "mass"], out=tmp_path_factory.mktemp("regression") / "audit")
    return Page(write_report(audit))


def test_it_stands_in_the_audit_unless_told_otherwise(hostile, digits_audit, tmp_path):
    assert write_report(digits_audit, tmp_path / "page.html", per_kind=1) == tmp_path / "page.html"
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize("name", ["page", "hostile", "regression"])
class TestEveryPage:
    @pytest.fixture
    def any_page(self, name, request) -> Page:
        return request.getfixturevalue(name)

    def test_nothing_comes_from_outside(self, any_page):
        assert not re.search(r"https?:|//[\w.]+\.\w|url\((?!#)|@import", any_page.source)
        assert not any_page.all("script") + any_page.all("link") + any_page.all("iframe")
        for tag, attributes in any_page.tags:
            assert not [key for key in attributes if key.startswith("on")], tag
            for key in ("src", "href", "xlink:href"):
                value = attributes.get(key)
                assert value is None or value.startswith(("#", "data:image/png;base64,")), value
        policy = next(meta for meta in any_page.all("meta") if meta.get("http-equiv"))
        assert "default-src 'none'" in (policy["content"] or "")

    def test_it_can_be_read_without_eyes(self, any_page):
        assert all(image.get("alt") for image in any_page.all("img"))
        assert all(svg.get("aria-label") for svg in any_page.all("svg"))
        assert len([tag for tag, _ in any_page.tags if tag == "h1"]) == 1

    def test_identifiers_are_unique_and_found(self, any_page):
        ids = any_page.ids()
        assert len(ids) == len(set(ids))
        wanted = set(re.findall(r'(?:href="#|url\(#)([^")]+)', any_page.source))
        assert wanted <= set(ids)


def test_figures_and_sections(page, regression):
    assert set(page.ids()) >= {"verdict", "effort", "classes", "scores", "mislabeled", "under-represented", "boundary"}
    titles = ["Expected recall", "Predicted against real refits", "Suspects per class", "Given → suggested"]
    assert all(title in page.text for title in [*titles, "Cook's distance by kind", "Why a sample stands out"])
    assert len(page.all("svg")) == 6
    assert "boundary" not in regression.ids()
    assert "classes" not in regression.ids()
    assert "predicted without it: height" in regression.text
    assert "predicted without it: mass" in regression.text


def test_the_numbers_a_person_asks_first(page, digits_audit):
    info = digits_audit.info
    for kind in ("mislabeled", "under-represented", "boundary"):
        assert f"{info['kinds'][kind]:,}" in page.text
    assert digits_audit.trust.reason in page.text
    assert all(check.sentence in page.text for check in digits_audit.trust.checks)
    assert f"{info['rows']:,} rows" in page.text


def test_the_promise_is_what_was_measured(page, digits_audit):
    points = expected_recall(digits_audit.trust, digits_audit.info["rows"])
    promise = next(point for point in points if point["recall"] >= 0.9)
    said = re.search(
        r"Inspect the first ([\d,]+) rows \(([\d.]+) %\).*?about ([\d.]+) % of the label errors", page.text
    )
    assert said is not None
    assert int(said[1].replace(",", "")) == promise["rows"]
    assert float(said[2]) == pytest.approx(100 * promise["share"])
    assert float(said[3]) == pytest.approx(100 * promise["recall"], rel=0.05)
    planted = digits_audit.trust.planted
    at = planted.effort.index(promise["share"])
    assert promise["recall"] == pytest.approx(planted.recall[at])


def test_the_strongest_of_each_kind_with_their_neighbours(page, digits_audit):
    top = digits_audit.top(8, kind="mislabeled").to_pylist()
    cards = [attributes for attributes in page.all("article") if attributes]
    assert len(cards) == sum(
        min(8, digits_audit.info["kinds"][kind]) for kind in digits_audit.info["kinds"] if kind != "typical"
    )
    for row in top:
        assert f"sample {row['id']}, given label {row['given_label']}" in page.source
    neighbours = digits_audit.explain(top[0]["id"])
    for side in (neighbours.supporters, neighbours.opponents):
        for one in side.to_pylist():
            assert f"training sample {one['id']}, labelled {one['given_label']}" in page.source
    thumbnails = page.all("img")
    assert len(thumbnails) >= len(cards) * 6
    assert "−" in page.text
    assert "+" in page.text


def test_hostile_strings_are_only_text(hostile):
    assert all(name in hostile.text for name in HOSTILE)
    assert not {"b", "i", "u"} & {
        tag for tag, attributes in hostile.tags if attributes.get("src") or tag in {"i", "u"}
    } - {"i"}
    assert "<u>" in hostile.text
    assert "<i>x0</i>" in hostile.text
    assert "alert(1)>" in hostile.text
    assert not [image for image in hostile.all("img") if image.get("src") == "x"]
    assert "49 &" not in hostile.text


def test_a_regression_page_speaks_of_targets(regression):
    assert "suspect target" in regression.text
    assert "standard deviations of the noise away" in regression.text
    assert "of the wrong targets" in regression.text
    assert "without it" in regression.text


def test_running_it_twice_gives_the_same_page(digits_audit, tmp_path):
    made = [write_report(digits_audit, tmp_path / f"{i}.html", per_kind=2).read_text("utf-8") for i in range(2)]
    assert re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "", made[0]) == re.sub(
        r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "", made[1]
    )
