"""The linter: every check is broken once in a copy of the rules."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import msgspec
import pytest

from geo_router import tables
from geo_router.rulebook import sources
from geo_router.rulebook.lint import lint

if TYPE_CHECKING:
    from collections.abc import Callable

TODAY = date(2026, 11, 24)
GIVEN = msgspec.to_builtins(sources.read())
CHANGES = msgspec.to_builtins(sources.read_changes())
HASH = tables.load().hash


def findings(
    change: Callable[[dict, dict], object] = lambda given, log: None,
    *,
    today: date = TODAY,
    data_hash: str = HASH,
) -> list[tuple[str, str, str]]:
    given = msgspec.json.decode(msgspec.json.encode(GIVEN))
    log = msgspec.json.decode(msgspec.json.encode(CHANGES))
    change(given, log)
    found = lint(
        msgspec.convert(given, sources.Sources),
        msgspec.convert(log, sources.Changes),
        data_hash=data_hash,
        today=today,
    )
    return [(finding.level, finding.where, finding.code) for finding in found]


STANDING = findings()


def rule(given: dict, name: str) -> dict:
    return next(entry for entry in given["rules"]["rules"] if entry["id"] == name)


def test_the_rules_have_no_error_and_their_warnings_are_known() -> None:
    assert STANDING == [
        ("warning", "2026.11.23-1", "not-reviewed"),
        ("warning", "french-oct/health", "high-unread"),
    ]


def kenya(**changes: object) -> Callable[[dict, dict], object]:
    return lambda given, log: rule(given, "kenya").update(changes)


def subdivisions(given: dict) -> dict:
    return given["rules"]["subdivisions"]


def offering(**changes: object) -> Callable[[dict, dict], object]:
    return lambda given, log: given["offerings"]["offerings"][0].update(changes)


def cluster(**changes: object) -> Callable[[dict, dict], object]:
    return lambda given, log: given["clusters"]["clusters"][0].update(changes)


def entry(**changes: object) -> Callable[[dict, dict], object]:
    return lambda given, log: log["changes"][0].update(changes)


def french_public(**changes: object) -> Callable[[dict, dict], object]:
    return lambda given, log: rule(given, "france")["sectors"]["public"].update(changes)


def syria_history(*untils: str) -> Callable[[dict, dict], object]:
    def change(given: dict, log: dict) -> None:
        text = rule(given, "syria")["history"][0]
        rule(given, "syria")["history"] = [text | {"until": until} for until in untils]

    return change


OPEN = {"allow": ["france"], "conditional": {}}
SOURCE = {"law": "x", "article": "", "url": "https://example.org/", "read": True}

BROKEN = [
    ("error", "KE", "country-without-rule", kenya(countries=[])),
    ("error", "QQ", "unknown-country", kenya(countries=["KE", "QQ"])),
    ("error", "DE", "country-twice", kenya(countries=["KE", "DE"])),
    ("error", "eu-gdpr", "rule-twice", kenya(id="eu-gdpr")),
    ("error", "kenya", "unknown-cluster", kenya(allow=["mars"])),
    ("error", "kenya", "unknown-condition", kenya(conditional={"uk": [["luck"]]})),
    ("error", "kenya", "cluster-twice", kenya(allow=["uk"])),
    ("error", "kenya", "empty-way", kenya(conditional={"uk": [[]]})),
    ("error", "kenya", "empty-way", kenya(conditional={"uk": []})),
    ("error", "kenya", "says-nothing", kenya(allow=[], conditional={})),
    (
        "error",
        "kenya",
        "refuses-and-opens",
        kenya(refuse={"kind": "localisation", "reason": "x", "also": None}),
    ),
    ("error", "kenya", "home-closed", kenya(home="india", **OPEN)),
    ("error", "kenya", "no-source", kenya(citations=[])),
    ("error", "kenya", "bad-source", kenya(citations=[SOURCE | {"url": "ftp://x"}])),
    ("error", "kenya", "evidence", kenya(evidence="recalled")),
    ("error", "kenya", "high-unread", kenya(confidence="high", citations=[SOURCE | {"read": False}])),
    ("error", "kenya", "unknown-strength", kenya(strength="iron")),
    ("error", "kenya", "bad-date", kenya(review_by="2027-02-30")),
    ("error", "kenya", "period", kenya(effective_from="2026-02-02", effective_to="2026-02-02")),
    ("error", "kenya", "review-overdue", kenya(review_by="2026-08-25")),
    ("warning", "kenya", "review-overdue", kenya(review_by="2026-08-26")),
    ("warning", "kenya", "review-overdue", kenya(review_by="2026-11-23")),
    ("error", "kenya", "no-legal-review", kenya(needs_legal_review=False)),
    ("error", "untold", "flag", kenya(flags=["untold"])),
    ("error", "france/public", "says-nothing", french_public(allow=[], conditional={})),
    ("error", "france/public", "home-closed", french_public(allow=["uk"], conditional={})),
    ("error", "syria", "history", syria_history("2025-07-01", "2024-01-01")),
    ("error", "syria", "history", syria_history("2025-07-01", "2025-07-01")),
    ("error", "us", "alias-twice", cluster(aliases=["us"])),
    ("error", "france", "too-few-zones", cluster(availability_zones=2)),
    ("error", "offerings", "count", lambda given, log: given["offerings"].update(listed=97)),
    ("error", "cis-benchmarks", "unknown-scope", offering(scope="moon")),
    ("error", "cis-benchmarks", "no-source", offering(url="")),
    ("error", "cis-benchmarks", "unknown-cluster", offering(clusters=["mars"])),
    ("error", "soc-1", "offering-twice", offering(id="soc-1")),
    ("error", "CHANGES.yaml", "no-entry", lambda given, log: log["changes"].clear()),
    ("error", "CHANGES.yaml", "no-entry", entry(data_hash="sha256:0")),
    ("error", "CHANGES.yaml", "version", entry(version="2026.1.1-1")),
    ("error", "2026.11.23-1", "one-pair-of-eyes", entry(reviewer="rules-editor")),
    ("error", "clusters.yaml", "version", lambda given, log: given["clusters"].update(version="1")),
    ("error", "UA-43", "unknown-rule", lambda given, log: subdivisions(given).update({"UA-43": "x"})),
    ("error", "XK", "extra-code", lambda given, log: given["extra"]["codes"].clear()),
    ("error", "UK", "country-alias", lambda given, log: given["extra"]["aliases"].update(UK="ZZ")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("level", "where", "code", "change"), BROKEN, ids=[f"{b[1]}-{b[2]}" for b in BROKEN]
)
def test_a_broken_rule_is_found(level: str, where: str, code: str, change: Callable) -> None:
    assert (level, where, code) in findings(change)
    assert (level, where, code) not in STANDING


def test_a_sector_that_does_not_exist_is_found() -> None:
    def change(given: dict, log: dict) -> None:
        sectors = rule(given, "france")["sectors"]
        sectors["mining"] = sectors["public"]
        sectors["general"] = sectors["public"]

    assert findings(change).count(("error", "france", "unknown-sector")) == 2


def test_a_pair_abroad_is_found() -> None:
    def change(given: dict, log: dict) -> None:
        given["clusters"]["clusters"][0]["backup_region"]["same_country"] = False

    assert ("error", "france", "pair-abroad") in findings(change)


@pytest.mark.parametrize(
    ("condition", "code"), [("luck", "unknown-condition"), ("explicit_consent", "foreign-fact")]
)
def test_only_a_condition_of_vendor_or_contract_can_be_a_fact(
    condition: str, code: str
) -> None:
    fact = {"condition": condition, "since": "2026-01-01", "evidence": "x", "reviewed_by": "y"}
    found = findings(lambda given, log: given["facts"]["facts"].append(fact))
    assert ("error", condition, code) in found


def test_a_named_legal_review_ends_the_need_for_one() -> None:
    def change(given: dict, log: dict) -> None:
        rule(given, "kenya")["needs_legal_review"] = False
        log["changes"][0]["legal_reviews"] = {"kenya": "opinion 12 of 2027-01-05"}

    assert ("error", "kenya", "no-legal-review") not in findings(change)


def test_a_reviewed_edition_is_not_warned_about() -> None:
    assert ("warning", "2026.11.23-1", "not-reviewed") not in findings(
        entry(reviewer="counsel")
    )
