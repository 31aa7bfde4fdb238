"""The compliance page: every number from the data, and nothing claimed of us."""

from __future__ import annotations

import asyncio

import azure.functions as func
import pytest

from geo_router import compliance, tables, web
from geo_router.pages import register
from geo_router.pages.register import Mark
from spaces import session
from spaces.settings import ROOT, settings
from tests.builders import some_environment
from tests.fakes import fake_ports
from tests.geo_router.builders import NOW
from tests.geo_router.pagereader import Page
from tests.geo_router.test_web import XSS, skeleton

RULES = tables.load()
KEY = some_environment()["KPAX_API_KEY"]


def page(given: dict[str, str] | None = None, status: int = 200) -> Page:
    response = web.compliance(given or {})
    assert response.status_code == status
    return Page(response.get_body().decode())


def rows(shown: Page) -> dict[str, list[str]]:
    """By title and scope: the six cells."""
    found: dict[str, list[str]] = {}
    for row in shown.all("tr"):
        head, cells = shown.within(row, "th"), shown.within(row, "td")
        if len(cells) == 6:
            found[head[0].text] = [cell.text for cell in cells]
    return found


def test_a_session_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in some_environment().items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    ports = fake_ports()
    monkeypatch.setattr(ports.clock, "now", lambda: NOW)
    monkeypatch.setattr(web, "ports", lambda: ports)
    statuses = []
    for cookie in ("", session.cookie(KEY, now=NOW, secure=False).split(";")[0]):
        request = func.HttpRequest(
            method="GET",
            url="http://127.0.0.1/console/compliance?cluster=uk&status=",
            headers={"Cookie": cookie},
            body=b"",
        )
        statuses.append(asyncio.run(web.compliance_page(request)).status_code)
    settings.cache_clear()
    assert statuses == [401, 200]


def test_every_offering_stands_against_every_cluster() -> None:
    shown = rows(page())
    assert len(shown) == len(RULES.offerings) == 98
    for offering in RULES.offerings.values():
        head = f"{offering.title}{offering.scope} · {offering.status}"
        (cells,) = [cells for told, cells in shown.items() if told.startswith(head)]
        for at, cell in enumerate(cells):
            carried = bool(offering.clusters >> at & 1)
            audited = carried and compliance.is_audited_and_current(offering)
            assert cell == ("● audited" if audited else "○ guidance" if carried else "· no")


def test_the_counts_are_those_of_the_register_and_of_the_rows() -> None:
    shown = page()
    counted = {
        shown.within(row, "th")[0].text: [int(cell.text) for cell in shown.within(row, "td")]
        for row in shown.all("tr")
        if len(shown.within(row, "td")) == 3
    }
    known = {one["cluster"]: one for one in compliance.counts(RULES)}
    cells = rows(shown).values()
    for at, cluster in enumerate(RULES.clusters):
        audited, guidance, none = counted[cluster.name]
        assert audited == known[cluster.id]["audited_and_current"]
        assert audited + guidance == known[cluster.id]["carried"]
        assert audited + guidance + none == len(RULES.offerings)
        assert audited == sum(row[at] == Mark.AUDITED.text for row in cells)
        assert guidance == sum(row[at] == Mark.GUIDANCE.text for row in cells)


def test_nothing_is_claimed_of_us(monkeypatch: pytest.MonkeyPatch) -> None:
    assert compliance.OURS == ()
    text = page().by_id("counts-title").inside[-2].text
    assert "We hold no certificate of our own" in text
    assert "Nothing of it claims that we are certified" in text
    assert "judged by the offering's scope" in text
    monkeypatch.setattr(compliance, "OURS", ("iso-27001",))
    assert "We hold ourselves: iso-27001." in page().html


@pytest.mark.parametrize(
    "given",
    [{"cluster": "india"}, {"status": "superseded"}, {"category": "health"},
     {"cluster": "france", "category": "health", "status": "renamed"}],
)  # fmt: skip
def test_a_filter_narrows_and_stays_chosen(given: dict[str, str]) -> None:
    shown = page(given)
    listed = [
        one
        for one in compliance.listed(
            RULES, cluster=given.get("cluster"), status=given.get("status")
        )
        if given.get("category") in (None, one.category)
    ]
    assert 0 < len(listed) < 98
    assert len(rows(shown)) == len(listed)
    assert f"{len(listed)} of 98 shown" in shown.html
    assert {name: value for name, value in shown.sent() if value} == given


def test_a_filter_that_is_not_understood_lists_nothing() -> None:
    for given in ({"cluster": "mars"}, {"status": "x"}, {"category": "y"}, {"colour": "red"}):
        shown = page(given, status=400)
        assert not rows(shown)
        assert shown.all("p", class_="wrong")
    assert page({"cluster": "mars"}, status=400).by_id("f-cluster")["aria-invalid"] == "true"


@pytest.mark.parametrize("field", ["cluster", "category", "status"])
def test_no_text_becomes_markup(field: str) -> None:
    trees = [skeleton(page({field: text}, status=400)) for text in XSS]
    assert all(tree == trees[0] for tree in trees)
    unknown = [skeleton(page({text: "x"}, status=400)) for text in XSS]
    assert all(tree == unknown[0] for tree in unknown)


def test_the_page_is_light_and_everything_points_at_something() -> None:
    shown = page()
    sheet = (ROOT / "console" / "static" / "console.css").read_bytes()
    assert len(shown.html.encode()) + len(sheet) < 60_000
    ids = shown.ids()
    assert len(ids) == len(set(ids))
    for one in shown.elements:
        for name in ("for", "aria-labelledby", "aria-describedby"):
            assert set((one.get(name) or "").split()) <= set(ids)
        assert "style" not in one.attributes
    assert not shown.all("script")


def test_a_source_that_is_no_web_address_is_no_link() -> None:
    offering = next(iter(RULES.offerings.values()))
    bad = type(offering)(
        **{name: getattr(offering, name) for name in offering.__slots__}
        | {"url": "javascript:alert(1)"}
    )
    assert register._line(bad, 6).source == ""
    assert register._line(offering, 6).source.startswith("https://")
