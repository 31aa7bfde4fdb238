"""The order of the steps, one idea each."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

import geo_router
from geo_router import router, tables
from tests.geo_router.builders import TODAY, ask

RULES = tables.load()


def refusal(answer: dict) -> tuple[str, str | None]:
    return answer["decision"], answer["refusal"]


def test_the_library_needs_no_service() -> None:
    assert geo_router.route({"country": "FR"})["cluster"] == "france"


def test_home_comes_before_a_nearer_cluster() -> None:
    answer = ask("NL")
    assert answer["cluster"] == "france"
    assert answer["ranked"][0]["why"][0] == "home"
    assert ask("NL", prefer="latency")["cluster"] == "uk"


def test_kosovo_is_placed_from_a_point_of_its_own() -> None:
    assert ask("XK")["cluster"] == "france"
    assert ask("XK")["ranked"][0]["km"] == 1607


@pytest.mark.parametrize(
    ("country", "before", "after", "day"),
    [
        ("SY", ("refused", "sanctions"), ("refused", "condition-required"), "2025-07-01"),
        ("BR", ("refused", "condition-required"), ("allowed", None), "2026-01-27"),
        ("UZ", ("refused", "localisation"), ("refused", "condition-required"), "2026-03-26"),
    ],
)
def test_a_former_text_holds_until_its_day_and_not_on_it(
    country: str, before: tuple, after: tuple, day: str
) -> None:
    eve = (date.fromisoformat(day) - timedelta(days=1)).isoformat()
    assert refusal(ask(country, as_of=eve)) == before
    assert refusal(ask(country, as_of=day)) == after


@pytest.mark.parametrize(("country", "day"), [("DE", "2023-07-10"), ("CH", "2024-09-15")])
def test_the_us_framework_cannot_hold_before_its_day(country: str, day: str) -> None:
    wish = {"assertions": ["vendor_dpf"], "pin": "us"}
    eve = (date.fromisoformat(day) - timedelta(days=1)).isoformat()
    assert ask(country, as_of=day, **wish)["cluster"] == "united-states"
    early = ask(country, as_of=eve, **wish)
    assert refusal(early) == ("refused", "requirement-conflict")
    out = next(e for e in early["excluded"] if e["cluster"] == "united-states")
    assert out["missing"] is None


def test_a_day_before_the_documented_text_is_remarked() -> None:
    assert "history-incomplete" in ask("DE", as_of="2024-01-01")["warnings"]
    assert "history-incomplete" not in ask("SY", as_of="2024-01-01")["warnings"]
    assert "history-incomplete" not in ask("DE")["warnings"]


def test_one_sure_refusal_among_several_refuses_and_only_low_ones_ask_a_person() -> None:
    low, sure = {"sector": "public"}, "TR"
    assert refusal(ask("KR", **low)) == ("needs_review", "localisation")
    assert refusal(ask("KR", **low, data_subject_countries=["VN"])) == (
        "needs_review",
        "localisation",
    )
    both_orders = [
        ask("KR", **low, data_subject_countries=[sure]),
        ask(sure, **low, data_subject_countries=["KR"]),
    ]
    assert [refusal(answer) for answer in both_orders] == [("refused", "localisation")] * 2


def test_sanctions_outrank_every_other_refusal() -> None:
    answer = ask("TR", sector="public", data_subject_countries=["IR"])
    assert refusal(answer) == ("refused", "sanctions")


def test_sanctioned_evidence_is_looked_at_after_a_refusal_and_before_an_empty_law() -> None:
    assert refusal(ask("TR", ip_country="IR")) == ("needs_review", "location-conflict")
    assert refusal(ask("TR", sector="public", ip_country="IR")) == ("refused", "localisation")
    assert refusal(ask("CU", ip_country="IR")) == ("refused", "sanctions")


def test_rules_without_a_cluster_in_common_are_a_conflict() -> None:
    answer = ask("IN", sector="payments", data_subject_countries=["FR"])
    assert refusal(answer) == ("refused", "residency-conflict")
    assert all(entry["missing"] is None for entry in answer["excluded"])


def test_the_billing_country_narrows_and_never_widens() -> None:
    assert ask("FR", billing_country="IN")["cluster"] == "france"
    assert refusal(ask("FR", sector="public", billing_country="TR")) == (
        "refused",
        "condition-required",
    )
    assert refusal(ask("US", sector="public", billing_country="TR")) == (
        "needs_review",
        "location-conflict",
    )


def test_an_ip_country_moves_nothing_but_is_remarked() -> None:
    answer = ask("FR", ip_country="US")
    assert answer["cluster"] == "france"
    assert answer["warnings"] == ["ip-country-differs"]
    assert [rule["id"] for rule in answer["rules"]] == ["france"]


def test_a_superseded_certificate_counts_only_where_it_is_accepted() -> None:
    name = next(
        o.id for o in RULES.offerings.values() if o.status == "superseded" and o.clusters & 4
    )
    assert refusal(ask("US", certifications=[name])) == ("refused", "certification-unavailable")
    assert (
        ask("US", certifications=[name], accept_superseded=True)["cluster"] == "united-states"
    )


def test_strict_residency_needs_a_home() -> None:
    assert ask("DE", strict_residency=True)["cluster"] == "france"
    assert refusal(ask("CH", strict_residency=True)) == ("refused", "no-home-cluster")
    assert refusal(ask("DE", strict_residency=True, data_subject_countries=["GB"])) == (
        "refused",
        "no-home-cluster",
    )


def test_a_full_home_is_waited_for_unless_the_customer_lets_it_go() -> None:
    full = {"france": "full"}
    queued = ask("DE", placement=full)
    assert refusal(queued) == ("queued", "no-capacity")
    assert (queued["cluster"], queued["ranked"][0]["cluster"]) == (None, "france")
    assert ask("DE", placement=full, allow_fallback=True)["cluster"] == "uk"
    assert ask("DE", placement=full, prefer="latency")["cluster"] == "uk"
    strict = ask("DE", placement=full, allow_fallback=True, strict_residency=True)
    assert refusal(strict) == ("queued", "no-capacity")


def test_without_a_home_the_next_open_cluster_is_taken_and_a_degraded_first_one_remarked() -> (
    None
):
    answer = ask("AE", placement={"india": "degraded"})
    assert answer["cluster"] == "france"
    assert answer["warnings"] == ["degraded-nearest"]
    assert {"cluster": "india", "by": "placement", "missing": None} in answer["excluded"]


def test_own_measurements_count_only_where_every_cluster_left_has_three() -> None:
    three = {name: [90, 80, 100] for name in ("france", "canada")} | {"uk": [5, 6, 7]}
    measured = ask("CH", measured_rtt=three)
    assert (measured["cluster"], measured["ranked"][0]["rtt_ms"]) == ("uk", 6)
    assert ask("CH", measured_rtt=three | {"uk": [5, 6]})["cluster"] == "france"
    assert "unsigned-measured-rtt" in measured["warnings"]


def test_coordinates_rank_and_are_remarked_far_from_the_country() -> None:
    assert ask("CH", coordinates=[51.5, -0.1])["cluster"] == "uk"
    assert "coordinates-far-from-country" in ask("CH", coordinates=[-33.9, 18.4])["warnings"]


@pytest.mark.parametrize(
    ("fields", "withheld"),
    [
        ({}, None),
        ({"as_of": TODAY}, None),
        ({"as_of": "2026-11-23"}, "unsigned-as-of"),
        ({"measured_rtt": {"uk": [1, 2, 3]}}, "unsigned-measured-rtt"),
        ({"assertions": ["vendor_dpf"]}, "unsigned-vendor-assertion"),
        ({"assertions": ["transfer_clauses"]}, None),
        ({"assertions": ["explicit_consent"]}, None),
    ],
)
def test_what_nobody_proved_is_decided_on_but_never_signed(fields: dict, withheld: str) -> None:
    settled = router.settle(RULES, {"country": "DE", **fields}, today=TODAY)
    assert settled.answer["decision"] == "allowed"
    assert settled.may_sign is (withheld is None)
    assert [w for w in settled.answer["warnings"] if w.startswith("unsigned")] == (
        [withheld] if withheld else []
    )


def test_an_assertion_is_recorded_with_its_holder() -> None:
    said = ask("TR", assertions=["authority_clauses"])["assertions"]
    assert [(entry["id"], entry["holder"]) for entry in said] == [
        ("authority_clauses", "customer")
    ]


def test_as_of_may_be_argument_or_field_but_not_two_days() -> None:
    assert geo_router.route({"country": "SY"}, as_of="2025-01-01")["refusal"] == "sanctions"
    same = geo_router.route({"country": "SY", "as_of": "2025-01-01"}, as_of="2025-01-01")
    assert same["refusal"] == "sanctions"
    pair = geo_router.route({"country": "SY", "as_of": "2025-01-02"}, as_of="2025-01-01")
    assert (pair["refusal"], pair["errors"][0]["pointer"]) == ("invalid-input", "/as_of")
