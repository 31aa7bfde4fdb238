"""The routing page: what is asked comes back, what is answered is all there, nothing breaks out."""

from __future__ import annotations

import asyncio
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import azure.functions as func
import pytest

from geo_router import router, tables, texts, web
from geo_router.model import Decision, Refusal, Role
from geo_router.pages import form, phrases
from geo_router.reading import FIELDS
from spaces import session
from spaces.settings import ROOT, settings
from tests.builders import some_environment
from tests.fakes import fake_ports
from tests.geo_router.builders import CLUSTERS, NOW, TODAY, ask
from tests.geo_router.pagereader import Page
from tests.geo_router.test_cases import CASES
from tests.geo_router.test_properties import requests

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

RULES = tables.load()
KEY = some_environment()["KPAX_API_KEY"]
XSS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' autofocus onfocus=alert(1) x='",
    "</textarea></title></svg><svg onload=alert(1)>",
    "javascript:alert(1)",
    "{{7*7}}{% raw %}",
    "&lt;b&gt;",
    "DE\x00\u202e\ufeff\U0001f600",
)
EVERYTHING = {
    "country": " ca",
    "subdivision": "CA-QC",
    "sector": "health",
    "coordinates": "45.5, -73.6",
    "data_subject_countries": "US,EL",
    "billing_country": "UK",
    "ip_country": "US",
    "assertions": "authority_approval,transfer_assessment",
    "withdrawn": "transfer_clauses",
    "certifications": "iso-27001,asip-hds-france",
    "pin": "England",
    "exclude": "us,in",
    "prefer": "latency",
    "strict_residency": "true",
    "allow_fallback": "true",
    "accept_superseded": "true",
    "measured_rtt": "uk=12,uk=11.5,uk=14,ca=9",
    "as_of": "2026-11-20",
    "data_kinds": "minors,genetic",
}


def page(given: Mapping[str, str], status: int = 200) -> Page:
    response = web.routing(dict(given), today=TODAY)
    assert response.status_code == status, given
    return Page(response.get_body().decode())


def as_query(request: Mapping[str, object]) -> dict[str, str]:
    return {name: texts.text_of(value, ",") for name, value in request.items() if value != []}


def settled(given: Mapping[str, str]) -> router.Settled:
    raw: dict[str, object] = {n: texts.field_of(n, text, ",") for n, text in given.items()}
    return router.settle(RULES, raw, today=TODAY)


def answered(given: Mapping[str, str]) -> dict[str, Any]:
    return settled(given).answer


def followed(address: str) -> dict[str, str]:
    parts = urlsplit(address)
    assert parts.path == "/console/routing"
    return web.gathered(parse_qsl(parts.query, keep_blank_values=True))


# --- the door


@pytest.fixture
def _app(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in some_environment().items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    ports = fake_ports()
    monkeypatch.setattr(ports.clock, "now", lambda: NOW)
    monkeypatch.setattr(web, "ports", lambda: ports)
    yield
    settings.cache_clear()


def get(query: str = "", *, cookie: str | None = None) -> func.HttpResponse:
    good = session.cookie(KEY, now=NOW, secure=False).split(";")[0]
    request = func.HttpRequest(
        method="GET",
        url=f"http://127.0.0.1:7071/console/routing{query}",
        headers={"Cookie": good if cookie is None else cookie},
        body=b"",
    )
    return asyncio.run(web.routing_page(request))


@pytest.mark.usefixtures("_app")
def test_a_session_is_needed() -> None:
    for cookie in ("", "kpax_console=1.x"):
        closed = get("?country=DE", cookie=cookie)
        assert closed.status_code == 401
        assert b"Germany" not in closed.get_body()
    assert get().status_code == 200


@pytest.mark.usefixtures("_app")
def test_a_shared_address_opens_with_the_key_and_keeps_the_question() -> None:
    opened = get(f"?country=DE&code={KEY}&exclude=uk,india", cookie="")
    assert opened.status_code == 303
    assert opened.headers["Location"] == "/console/routing?country=DE&exclude=uk,india"
    assert KEY not in opened.headers["Location"]


@pytest.mark.usefixtures("_app")
def test_what_a_form_sends_becomes_a_short_address() -> None:
    sent = get("?country=DE&subdivision=&exclude=uk&pin=&exclude=india&as_of=+")
    assert sent.status_code == 303
    assert sent.headers["Location"] == "/console/routing?country=DE&exclude=uk,india"
    assert get("?country=DE&exclude=uk,india").status_code == 200


@pytest.mark.usefixtures("_app")
def test_a_form_sent_blank_asks_for_the_country() -> None:
    sent = get("?country=&subdivision=")
    assert sent.headers["Location"] == "/console/routing?country="
    asked = get("?country=")
    assert asked.status_code == 400
    assert b"a two-letter country code is needed" in asked.get_body()


@pytest.mark.usefixtures("_app")
@pytest.mark.parametrize("text", ["a%00b", "%ff%fe", "a+b%2Bc", "a%0d%0aX: y", "=&&;=", "ü=ß"])
def test_no_address_goes_round_in_circles(text: str) -> None:
    answer = get(f"?country=DE&pin={text}")
    if answer.status_code == 303:
        answer = get(f"?{urlsplit(answer.headers['Location']).query}")
    assert answer.status_code == 400


@pytest.mark.usefixtures("_app")
def test_the_page_obeys_its_policy_and_its_weight() -> None:
    answer = get("?country=DE")
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    body = answer.get_body()
    assert b"<script" not in body
    assert not re.search(rb"\sstyle\s*=|<style|\son\w+\s*=", body)
    sheet = (ROOT / "console" / "static" / "console.css").read_bytes()
    assert len(body) + len(sheet) < 60_000


# --- the form


def test_every_field_of_a_request_has_one_control() -> None:
    names = [
        control.name for group in form.form(RULES, {}).groups for control in group.controls
    ]
    assert sorted(names) == sorted(FIELDS)
    assert {name for name, _ in page({}).sent()} <= set(FIELDS)


def test_every_field_comes_back_as_it_was_given() -> None:
    assert set(EVERYTHING) == set(FIELDS)
    shown = page(EVERYTHING)
    back = web.gathered(shown.sent())
    assert set(back) == set(FIELDS)
    for name in ("country", "coordinates", "billing_country", "measured_rtt", "as_of"):
        assert back[name] == EVERYTHING[name]
    assert settled(back).form == settled(EVERYTHING).form
    assert settled(back).form is not None


def test_sending_a_page_again_asks_the_same() -> None:
    for request in requests(150, seed=21):
        given = as_query(request)
        again = web.gathered(page(given).sent())
        assert settled(again).form == settled(given).form, request


def test_nothing_is_asked_on_the_bare_page() -> None:
    bare = page({})
    assert [pair for pair in bare.sent() if pair[1]] == []
    assert not bare.all("svg")
    assert "aria-invalid" not in bare.html
    for link in bare.all("a"):
        if link["href"].startswith("/console/routing?"):
            assert answered(followed(link["href"]))["refusal"] != "invalid-input"


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("country", "DEU"),
        ("country", "Germany"),
        ("subdivision", "FR-75"),
        ("sector", "circus"),
        ("coordinates", "91,nan"),
        ("data_subject_countries", "DE,,XX"),
        ("billing_country", "Ä"),
        ("ip_country", "127.0.0.1"),
        ("assertions", "vendor_hds,all"),
        ("withdrawn", "law"),
        ("certifications", "iso-27001,gold"),
        ("pin", "mars"),
        ("exclude", "uk,atlantis"),
        ("prefer", "cheap"),
        ("strict_residency", "yes"),
        ("allow_fallback", "1"),
        ("accept_superseded", "maybe"),
        ("measured_rtt", "uk=fast"),
        ("as_of", "2026-02-30"),
        ("data_kinds", "secrets"),
    ],
)
def test_what_is_wrong_is_told_at_its_control(field: str, text: str) -> None:
    shown = page({"country": "DE"} | {field: text}, status=400)
    control = shown.by_id(f"f-{field}")
    assert control["aria-invalid"] == "true"
    told = [shown.by_id(name) for name in control["aria-describedby"].split()]
    told = [one for one in told if one["class"] == "wrong"]
    errors = answered({"country": "DE"} | {field: text})["errors"]
    assert [one.text.removeprefix("✕ ") for one in told] == [one["message"] for one in errors]
    assert [one["href"] for one in shown.within(shown.by_id("answer"), "a")] == [
        f"#f-{field}"
    ] * len(errors)
    assert all("open" in one.attributes for one in control.inside if one.tag == "details")
    assert not shown.all("svg")


def test_several_mistakes_are_told_at_once_and_unknown_names_too() -> None:
    shown = page({"country": "XX", "pin": "<b>", "colour": "red"}, status=400)
    assert len(shown.within(shown.by_id("answer"), "li")) == 3
    assert "there is no field 'colour'" in shown.by_id("answer").text


def test_what_is_chosen_stands_first_among_the_many() -> None:
    first = page({"country": "US", "certifications": "dod-il5,iso-27001"})
    boxes_ = first.all("input", name="certifications")
    assert {one["value"] for one in boxes_[:2]} == {"dod-il5", "iso-27001"}
    assert len(boxes_) == len(RULES.offerings)


# --- nothing breaks out


def skeleton(shown: Page) -> list[tuple[str, ...]]:
    return [(one.tag, *sorted(one.attributes)) for one in shown.elements]


@pytest.mark.parametrize("field", [*FIELDS, "x", "<b onload=alert(1)>", '"><script>'])
def test_no_text_becomes_markup(field: str) -> None:
    plain = None
    for text in XSS:
        response = web.routing({"country": "DE"} | {field: text}, today=TODAY)
        shown = Page(response.get_body().decode())
        for one in shown.elements:
            assert one.tag not in ("script", "img", "iframe", "textarea"), text
            assert not [name for name in one.attributes if name.startswith("on")], text
            assert "style" not in one.attributes
            assert not one.attributes.get("href", "").lower().startswith("javascript"), text
        controls = shown.all("input", id=f"f-{field}", type="text")
        assert [one["value"] for one in controls] == [text] * len(controls)
        # Every text of the corpus gives one and the same tree: it is text and nothing else.
        tree = skeleton(shown)
        plain = plain or tree
        if "," not in text:
            assert tree == plain, text


def test_a_source_that_is_no_web_address_is_no_link(monkeypatch: pytest.MonkeyPatch) -> None:
    real = router.settle

    def poisoned(*args: Any, **kwargs: Any) -> router.Settled:
        found = real(*args, **kwargs)
        rule = found.answer["rules"][0]  # pyright: ignore[reportIndexIssue]
        rule["sources"] = ["javascript:alert(1)"] * len(rule["sources"])
        rule["citations"] = [XSS[0]] * len(rule["citations"])
        return found

    monkeypatch.setattr(router, "settle", poisoned)
    shown = page({"country": "DE"})
    assert XSS[0] in shown.by_id("answer").text
    assert not [one for one in shown.all("a") if "javascript" in one["href"]]
    assert not shown.all("script")


# --- the answer


def a_few() -> list[dict[str, str]]:
    asked = [
        {"country": "DE"},
        {"country": "CU"},
        {"country": "KR", "sector": "public"},
        {"country": "FR", "ip_country": "IR"},
        {"country": "TR"},
        {"country": "US", "certifications": "dod-il5,iso-27001"},
        {"country": "CH", "strict_residency": "true"},
        {"country": "DE", "pin": "us", "exclude": "uk"},
        EVERYTHING,
    ]
    return asked + [as_query(request) for request in requests(60, seed=4)]


def test_everything_that_points_points_at_something() -> None:
    for given in [{}, *a_few()]:
        shown = page(given)
        ids = shown.ids()
        assert len(ids) == len(set(ids))
        for one in shown.elements:
            for name in ("for", "aria-labelledby", "aria-describedby", "list"):
                assert set((one.get(name) or "").split()) <= set(ids), (one.tag, name)
            if one.get(
                "href",
            ) and one["href"].startswith("#"):
                assert one["href"][1:] in ids


def test_the_page_has_landmarks_one_heading_and_labelled_controls() -> None:
    for given in ({}, {"country": "DE"}):
        shown = page(given)
        assert [len(shown.all(tag)) for tag in ("h1", "main", "header", "nav", "footer")] == [
            1
        ] * 5
        assert shown.all("html")[0]["lang"] == "en"
        labels = {one.get("for") for one in shown.all("label")}
        for one in [*shown.all("input"), *shown.all("select")]:
            assert one.get("id") in labels or any(o.tag == "label" for o in one.inside)
        levels = [int(one.tag[1]) for one in shown.elements if re.fullmatch(r"h[1-6]", one.tag)]
        assert all(b - a <= 1 for a, b in pairwise(levels))
        here = [one for one in shown.all("a") if one.get("aria-current") == "page"]
        assert [one["href"] for one in here] == ["/console/routing"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_each_case_shows_what_the_answer_says(case: dict) -> None:
    request = {n: value for n, value in case["request"].items() if n != "placement"}
    found = ask(**request)
    if "errors" in found:
        return  # how those are shown is tested above, and not each can be written as an address
    shown = page(as_query(request))
    answer = shown.by_id("answer")
    assert found["summary"] in answer.text
    (table,) = shown.all("table")
    rows = [shown.within(row, "th")[0].text for row in shown.within(table, "tr")[1:]]
    names = {cluster.id: cluster.name for cluster in RULES.clusters}
    expected = [names[entry["cluster"]] for entry in [*found["ranked"], *found["excluded"]]]
    assert [row.startswith(name) for row, name in zip(rows, expected, strict=True)] == [
        True
    ] * 6
    articles = shown.all("article")
    assert len(articles) == len(found["rules"])
    for article, rule in zip(articles, found["rules"], strict=True):
        links = {(one["href"], one.text) for one in shown.within(article, "a")}
        said = {
            (source, " ".join(citation.split()))
            for source, citation in zip(rule["sources"], rule["citations"], strict=True)
        }
        assert said <= links
        assert f"Confidence{rule['confidence']}" in article.text.replace(" ", "")
        assert phrases.EVIDENCE[rule["evidence"]] in article.text
        assert rule["title"] in article.text
    for warning in found["warnings"]:
        assert phrases.WARNINGS[warning] in answer.text
    for entry in found["excluded"]:
        for together in entry["missing"] or ():
            for name in together:
                assert name in answer.text


def test_the_link_of_a_condition_opens_the_cluster_to_the_rules() -> None:
    tried = 0
    for given in a_few():
        shown, found = page(given), answered(given)
        by_name = {cluster.name: cluster.id for cluster in RULES.clusters}
        rule_ids = {rule.id for rule in RULES.rules}
        for link in shown.all("a"):
            if not link.text.startswith("Ask again as if it held"):
                continue
            cluster = by_name[link.text.partition("(")[2].removesuffix(")")]
            assert next(e for e in found["excluded"] if e["cluster"] == cluster)["missing"]
            then = answered(followed(link["href"]))
            left = next((e for e in then["excluded"] if e["cluster"] == cluster), None)
            assert left is None or left["by"] not in rule_ids, (given, link["href"])
            tried += 1
    assert tried > 30


def test_the_link_of_a_wish_takes_that_wish_away() -> None:
    tried = dict.fromkeys(("pin", "exclude", "certification", "strict_residency"), 0)
    for given in a_few():
        found, shown = answered(given), page(given)
        for entry in found["excluded"]:
            if entry["by"] not in tried:
                continue
            name = next(c.name for c in RULES.clusters if c.id == entry["cluster"])
            links = [one for one in shown.all("a") if one.text.endswith(f"({name})")]
            assert links, (given, entry)
            if entry["by"] == "certification" and len(links) > 1:
                continue  # each takes one of several away
            then = answered(followed(links[0]["href"]))
            again = next(
                (e for e in then["excluded"] if e["cluster"] == entry["cluster"]), None
            )
            assert again is None or again["by"] != entry["by"], (given, entry)
            tried[entry["by"]] += 1
    assert all(tried.values()), tried


def test_a_missing_certification_is_named_with_its_reason() -> None:
    shown = page({"country": "US", "certifications": "dod-il5,iso-27001"})
    text = shown.by_id("answer").text
    assert RULES.scopes[RULES.offerings["dod-il5"].scope] in text
    assert "(iso-27001) is not carried" not in text


def test_a_superseded_certificate_can_be_accepted_by_a_link() -> None:
    old = next(o for o in RULES.offerings.values() if o.status == "superseded" and o.clusters)
    country = "US" if old.clusters >> CLUSTERS.index("united-states") & 1 else "FR"
    shown = page({"country": country, "certifications": old.id})
    links = [one for one in shown.all("a") if "accepted" in one.text]
    assert links
    assert followed(links[0]["href"])["accept_superseded"] == "true"


def test_the_address_and_the_json_link_ask_the_same() -> None:
    for given in a_few():
        shown = page(given)
        (address,) = [a for a in shown.all("a") if a.text == "Address of this question"]
        (api,) = [a for a in shown.all("a") if a.text == "the same as JSON"]
        parts = urlsplit(api["href"])
        assert parts.path == "/api/v1/route"
        assert settled(dict(parse_qsl(parts.query))).form == settled(given).form
        assert settled(followed(address["href"])).form == settled(given).form
        assert address["href"] == f"/console/routing?{parts.query}"


def test_a_preview_says_that_it_opens_nothing() -> None:
    text = page({"country": "DE"}).by_id("answer").text
    assert "not signed" in text
    assert "eyJ" not in text


def test_no_closed_set_is_without_words() -> None:
    assert set(phrases.DECISIONS) == set(Decision)
    assert set(phrases.REFUSALS) == set(Refusal)
    assert set(phrases.ROLES) == set(Role)
    assert {rule.evidence for rule in RULES.rules} <= set(phrases.EVIDENCE)
    assert {rule.basis for rule in RULES.rules} <= set(phrases.BASES)
    found = [ask(**request) for request in requests(400, seed=5)]
    assert {name for answer in found for name in answer["warnings"]} <= set(phrases.WARNINGS)
    reasons = {why for answer in found for entry in answer["ranked"] for why in entry["why"]}
    assert reasons <= set(phrases.REASONS)


def test_the_map_has_a_name_words_and_a_table_beside_it() -> None:
    shown = page({"country": "NZ"})
    (svg,) = shown.all("svg")
    assert svg["role"] == "img"
    words = shown.by_id("map-words").text
    order = [entry["cluster"] for entry in ask("NZ")["ranked"]]
    names = {cluster.id: cluster.name for cluster in RULES.clusters}
    assert ", then ".join(names[name] for name in order) in words
    assert len(shown.within(svg, "g")) == 6
    assert shown.all("caption")


def test_a_query_is_written_as_it_is_read() -> None:
    given = web.gathered(parse_qsl(urlencode(EVERYTHING)))
    assert given == EVERYTHING
