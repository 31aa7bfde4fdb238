"""The routing cases, written by hand from the rules, and the whole grid against the slow reading."""

from __future__ import annotations

import random
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from geo_router import router, tables
from geo_router.rulebook import plain, sources
from tests.geo_router.builders import CLUSTERS, TODAY, ask

CASES = yaml.safe_load((Path(__file__).parent / "routing_cases.yaml").read_text())["cases"]
RULES = tables.load()
SOURCES = sources.read()


@pytest.mark.parametrize("metric", ["rtt", "distance"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_the_case_is_decided_as_written(case: dict, metric: str) -> None:
    request = dict(case["request"])
    placement = request.pop("placement", None)
    answer = ask(**request, placement=placement, metric=metric)
    expect = case["expect"]
    cluster = expect.get("cluster_by_metric", {}).get(metric, expect.get("cluster"))
    default = "allowed" if cluster else "refused"
    assert answer["cluster"] == cluster
    assert answer["refusal"] == expect.get("refusal")
    assert answer["decision"] == expect.get("decision", default)
    if answer["refusal"] != "invalid-input" and "rule" in case:
        assert case["rule"] in [rule["id"] for rule in answer["rules"]]


def outcome(answer: dict) -> tuple:
    order = [entry["cluster"] for entry in answer["ranked"]]
    return answer["decision"], answer["refusal"], answer["cluster"], order


def slow_outcome(request: dict, **arguments: Any) -> tuple:
    slow = plain.decide(SOURCES, request, today=TODAY, **arguments)
    return slow.decision, slow.refusal, slow.cluster, slow.ranked


@pytest.mark.parametrize("metric", ["rtt", "distance"])
def test_the_whole_grid_is_decided_as_the_slow_reading_does(metric: str) -> None:
    differing = []
    for country, sector in product(RULES.countries, RULES.sectors):
        request = {"country": country, "sector": sector}
        fast = outcome(ask(**request, metric=metric))
        if fast != slow_outcome(request, metric=metric):
            differing.append((request, fast))
    assert len(RULES.countries) * len(RULES.sectors) == 250 * 5
    assert not differing


def a_random_request(dice: random.Random) -> dict:
    """Any combination of fields, canonical, so that the slow reading understands it."""
    codes, conditions = list(RULES.countries), [c.id for c in RULES.conditions]

    def maybe(chance: float, value: object) -> object | None:
        return value if dice.random() < chance else None

    def some(of: list, most: int) -> list:
        return dice.sample(of, dice.randint(1, most))

    def samples() -> list[float]:
        return [round(dice.uniform(1, 300), 1) for _ in range(dice.randint(2, 5))]

    divided = maybe(0.05, dice.choice(list(RULES.subdivisions)))
    certificates = dice.choice([["iso-27001", "soc-2", "dod-il5"], list(RULES.offerings)])
    request = {
        "country": divided[:2] if isinstance(divided, str) else dice.choice(codes),
        "subdivision": divided,
        "sector": maybe(0.6, dice.choice(RULES.sectors)),
        "coordinates": maybe(0.2, [dice.uniform(-90, 90), dice.uniform(-180, 180)]),
        "data_subject_countries": maybe(0.2, some(codes, 3)),
        "billing_country": maybe(0.15, dice.choice(codes)),
        "ip_country": maybe(0.1, dice.choice(codes)),
        "assertions": maybe(0.5, some(conditions, 5)),
        "withdrawn": maybe(0.1, some(conditions, 2)),
        "certifications": maybe(0.1, some(certificates, 2)),
        "pin": maybe(0.1, dice.choice(CLUSTERS)),
        "exclude": maybe(0.15, some(list(CLUSTERS), 3)),
        "prefer": maybe(0.3, dice.choice(["latency", "residency"])),
        "strict_residency": maybe(0.2, dice.random() < 0.7),
        "allow_fallback": maybe(0.2, dice.random() < 0.7),
        "accept_superseded": maybe(0.1, value=True),
        "measured_rtt": maybe(0.1, {name: samples() for name in some(list(CLUSTERS), 6)}),
        "as_of": maybe(
            0.2, dice.choice(["2023-07-09", "2024-09-14", "2025-06-30", "2026-01-26"])
        ),
    }
    return {name: value for name, value in request.items() if value is not None}


def differing_requests(count: int, seed: int) -> list:
    dice = random.Random(seed)  # noqa: S311 - a seeded test, no secret
    found = []
    for _ in range(count):
        request = a_random_request(dice)
        states = {name: dice.choice(router.STATES) for name in dice.sample(CLUSTERS, 2)}
        arguments = {
            "metric": dice.choice(["rtt", "distance"]),
            "placement": states if dice.random() < 0.3 else None,
        }
        fast = outcome(ask(**request, **arguments))
        if fast != slow_outcome(request, **arguments):
            found.append((request, arguments, fast))
    return found


def test_random_requests_are_decided_as_the_slow_reading_does() -> None:
    assert differing_requests(15_000, seed=20261123) == []


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_two_hundred_thousand_random_requests_are_decided_as_the_slow_reading_does() -> None:
    assert differing_requests(200_000, seed=7) == []
