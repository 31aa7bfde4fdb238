"""Bad input: every wrong field is named, none is ignored or replaced."""

from __future__ import annotations

import math

import pytest

import geo_router
from geo_router import reading, router, tables
from tests.geo_router.builders import TODAY

RULES = tables.load()


def read(request: object) -> dict:
    return router.settle(RULES, request, today=TODAY).answer


def pointers(answer: dict) -> list[str]:
    return [error["pointer"] for error in answer["errors"]]


@pytest.mark.parametrize(
    "country",
    ["DEU", "276", "", "D", "Germany", "ZZ", "ＤＥ", "D E", "ßE", "XX", "EU", "DE\x00", "Ⅾ"],  # noqa: RUF001 - full-width on purpose
)
def test_what_is_no_country_code_is_unknown(country: str) -> None:
    answer = read({"country": country})
    assert (answer["decision"], answer["refusal"]) == ("refused", "unknown-country")
    assert pointers(answer) == ["/country"]
    assert (answer["cluster"], answer["token"], answer["request_hash"]) == (None, None, None)


@pytest.mark.parametrize(
    ("given", "rule"),
    [("uk", "uk-gdpr"), (" De ", "eu-gdpr"), ("EL", "eu-gdpr"), ("xk", "europe-gdpr-like")],
)
def test_a_code_is_trimmed_in_any_case_and_known_by_its_other_names(
    given: str, rule: str
) -> None:
    assert read({"country": given})["rules"][0]["id"] == rule


BAD = [
    ([], "", "type"),
    (None, "", "type"),
    ("DE", "", "type"),
    ({}, "/country", "required"),
    ({"country": None}, "/country", "type"),
    ({"country": 276}, "/country", "type"),
    ({"country": True}, "/country", "type"),
    ({"country": ["DE"]}, "/country", "type"),
    ({"country": "DE", "Sector": "health"}, "/Sector", "unknown-field"),
    ({"country": "DE", "citizenship": "FR"}, "/citizenship", "unknown-field"),
    ({"country": "DE", "placement": {}}, "/placement", "unknown-field"),
    ({"country": "DE", "a/b~c": 1}, "/a~1b~0c", "unknown-field"),
    ({"country": "DE", "sector": "mining"}, "/sector", "not-in-list"),
    ({"country": "DE", "sector": "Health"}, "/sector", "not-in-list"),
    ({"country": "DE", "sector": None}, "/sector", "not-in-list"),
    ({"country": "DE", "sector": ""}, "/sector", "not-in-list"),
    ({"country": "FR", "subdivision": "CA-QC"}, "/subdivision", "other-country"),
    ({"country": "CA", "subdivision": "QC"}, "/subdivision", "format"),
    ({"country": "CA", "subdivision": "CA-"}, "/subdivision", "format"),
    ({"country": "CA", "subdivision": 1}, "/subdivision", "format"),
    ({"country": "DE", "coordinates": [48.8]}, "/coordinates", "length"),
    ({"country": "DE", "coordinates": "48,2"}, "/coordinates", "type"),
    ({"country": "DE", "coordinates": [True, 2]}, "/coordinates/0", "range"),
    ({"country": "DE", "coordinates": ["48", 2]}, "/coordinates/0", "range"),
    ({"country": "DE", "coordinates": [90.01, 2]}, "/coordinates/0", "range"),
    ({"country": "DE", "coordinates": [0, -180.5]}, "/coordinates/1", "range"),
    ({"country": "DE", "coordinates": [math.nan, 2]}, "/coordinates/0", "range"),
    ({"country": "DE", "coordinates": [math.inf, 2]}, "/coordinates/0", "range"),
    ({"country": "DE", "coordinates": [10**400, 2]}, "/coordinates/0", "range"),
    ({"country": "DE", "data_subject_countries": "FR"}, "/data_subject_countries", "type"),
    ({"country": "DE", "data_subject_countries": ["FR"] * 33}, "/data_subject_countries", "too-many"),
    ({"country": "DE", "data_subject_countries": [1]}, "/data_subject_countries/0", "type"),
    ({"country": "DE", "assertions": ["vendor_dpf", "x"]}, "/assertions/1", "not-in-list"),
    ({"country": "DE", "assertions": {"vendor_dpf": True}}, "/assertions", "type"),
    ({"country": "DE", "withdrawn": [None]}, "/withdrawn/0", "not-in-list"),
    ({"country": "DE", "certifications": ["iso-99999"]}, "/certifications/0", "not-in-list"),
    ({"country": "DE", "certifications": [["iso-27001"]]}, "/certifications/0", "not-in-list"),
    ({"country": "DE", "pin": "germany"}, "/pin", "not-in-list"),
    ({"country": "DE", "pin": ["uk"]}, "/pin", "not-in-list"),
    ({"country": "DE", "exclude": "uk"}, "/exclude", "type"),
    ({"country": "DE", "exclude": ["mars"]}, "/exclude/0", "not-in-list"),
    ({"country": "DE", "prefer": "speed"}, "/prefer", "not-in-list"),
    ({"country": "DE", "strict_residency": "true"}, "/strict_residency", "type"),
    ({"country": "DE", "allow_fallback": 1}, "/allow_fallback", "type"),
    ({"country": "DE", "accept_superseded": None}, "/accept_superseded", "type"),
    ({"country": "DE", "measured_rtt": [1, 2, 3]}, "/measured_rtt", "type"),
    ({"country": "DE", "measured_rtt": {"mars": [1]}}, "/measured_rtt/mars", "not-in-list"),
    ({"country": "DE", "measured_rtt": {"uk": 5}}, "/measured_rtt/uk", "type"),
    ({"country": "DE", "measured_rtt": {"uk": [0]}}, "/measured_rtt/uk/0", "range"),
    ({"country": "DE", "measured_rtt": {"uk": [5000]}}, "/measured_rtt/uk/0", "range"),
    ({"country": "DE", "measured_rtt": {"uk": [1], "gb": [1]}}, "/measured_rtt/gb", "duplicate"),
    ({"country": "DE", "as_of": "2026-02-30"}, "/as_of", "format"),
    ({"country": "DE", "as_of": "20260223"}, "/as_of", "format"),
    ({"country": "DE", "as_of": "2026-W09-1"}, "/as_of", "format"),
    ({"country": "DE", "as_of": 20260223}, "/as_of", "format"),
    ({"country": "DE", "data_kinds": ["gossip"]}, "/data_kinds/0", "not-in-list"),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "pointer", "code"), BAD, ids=range(len(BAD)))
def test_a_wrong_field_is_named(request_: object, pointer: str, code: str) -> None:
    answer = read(request_)
    assert (answer["decision"], answer["refusal"]) == ("refused", "invalid-input")
    assert [(error["pointer"], error["code"]) for error in answer["errors"]] == [
        (pointer, code)
    ]


def test_the_bad_requests_touch_every_field() -> None:
    touched = {pointer.split("/")[1] for _, pointer, _ in BAD if pointer}
    assert set(reading.FIELDS) <= touched | {"billing_country", "ip_country"}


def test_all_wrong_fields_are_named_at_once_and_invalid_comes_before_unknown() -> None:
    answer = read({"country": "ZZ", "sector": "mining", "pin": 1, "ip_country": "QQ"})
    assert answer["refusal"] == "invalid-input"
    assert sorted(pointers(answer)) == ["/country", "/ip_country", "/pin", "/sector"]


def test_an_unknown_country_anywhere_is_named_by_its_place() -> None:
    answer = read({"country": "DE", "data_subject_countries": ["FR", "QQ"], "ip_country": "A1"})
    assert answer["refusal"] == "unknown-country"
    assert pointers(answer) == ["/data_subject_countries/1", "/ip_country"]


def test_a_flood_of_errors_is_cut_short_and_counted() -> None:
    answer = read({"country": "DE", "assertions": ["x"] * 10_000})
    assert len(answer["errors"]) == reading.MOST_ERRORS + 1
    assert answer["errors"][-1]["message"] == f"and {10_000 - reading.MOST_ERRORS} more"


def test_a_value_is_shown_back_short_and_harmless() -> None:
    shown = read({"country": "DE", "pin": "<script>\u202e\ud800" + "x" * 1000})["errors"][0]
    assert "<" not in shown["message"]
    assert shown["message"].isascii()
    assert len(shown["message"]) < 110


def test_a_wrong_argument_is_answered_like_a_wrong_field() -> None:
    request = {"country": "DE"}
    for arguments in (
        {"metric": "miles"},
        {"placement": {"mars": "open"}},
        {"placement": {"france": "busy"}},
        {"as_of": "tomorrow"},
    ):
        answer = geo_router.route(request, **arguments)
        assert answer["refusal"] == "invalid-input", arguments


@pytest.mark.parametrize(
    "same",
    [
        {"country": " uk "},
        {"country": "GB", "sector": "general"},
        {"country": "GB", "prefer": "residency", "strict_residency": False, "exclude": []},
        {"country": "GB", "as_of": TODAY},
        {"country": "GB", "data_kinds": [], "assertions": [], "certifications": []},
    ],
)
def test_one_meaning_has_one_hash(same: dict) -> None:
    assert read(same)["request_hash"] == read({"country": "GB"})["request_hash"]


def test_a_place_has_one_hash() -> None:
    hashes = {
        read({"country": "GB", "coordinates": pair})["request_hash"]
        for pair in ([0, 0], [0.0, -0.0], [-0.0, 0])
    }
    assert len(hashes) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"sector": "health"}, {"subdivision": "GB-ENG"}, {"coordinates": [0, 0]},
        {"data_subject_countries": ["FR"]}, {"billing_country": "GB"}, {"ip_country": "GB"},
        {"assertions": ["vendor_dpf"]}, {"withdrawn": ["transfer_clauses"]},
        {"certifications": ["iso-27001"]}, {"pin": "uk"}, {"exclude": ["india"]},
        {"prefer": "latency"}, {"strict_residency": True}, {"allow_fallback": True},
        {"accept_superseded": True}, {"measured_rtt": {"uk": [1]}}, {"as_of": "2026-11-23"},
        {"data_kinds": ["minors"]},
    ],
    ids=lambda other: next(iter(other)),
)  # fmt: skip
def test_every_field_changes_the_hash(other: dict) -> None:
    bare, more = read({"country": "GB"}), read({"country": "GB", **other})
    assert more["request_hash"] not in (None, bare["request_hash"])
