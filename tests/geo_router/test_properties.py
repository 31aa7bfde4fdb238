"""What must hold for every request, whatever the rules say."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from geo_router import decide, reading, router, tables
from tests.geo_router.builders import CLUSTERS, TODAY, ask
from tests.geo_router.test_cases import a_random_request

RULES = tables.load()
ROOT = Path(__file__).parents[2]
CONDITIONS = [condition.id for condition in RULES.conditions]


def requests(count: int, seed: int) -> list[dict]:
    dice = random.Random(seed)  # noqa: S311 - a seeded test, no secret
    return [a_random_request(dice) for _ in range(count)]


def lawful(request: dict) -> set[str]:
    """The clusters left after law, evidence, certificates and wishes."""
    read, day = reading.read(RULES, request)
    verdict = decide.decide(RULES, read, today=day or TODAY, open_now=RULES.every_cluster)
    return {name for at, name in enumerate(CLUSTERS) if verdict.stages.strict >> at & 1}


def test_an_assertion_never_takes_a_cluster_away() -> None:
    for request in requests(400, seed=1):
        more = request | {"assertions": CONDITIONS}
        assert lawful(request) <= lawful(more), request


@pytest.mark.parametrize(
    "more",
    [
        {"data_subject_countries": ["BR", "KE"]},
        {"certifications": ["asip-hds-france"]},
        {"exclude": ["uk"]},
        {"billing_country": "IN"},
        {"ip_country": "IR"},
        {"strict_residency": True},
    ],
    ids=lambda more: next(iter(more)),
)
def test_a_further_demand_never_adds_a_cluster(more: dict) -> None:
    for request in requests(300, seed=2):
        field = next(iter(more))
        if isinstance(more[field], list):
            joined = more | {field: [*request.get(field, []), *more[field]]}
        elif field in request:
            continue
        else:
            joined = more
        assert lawful(request | joined) <= lawful(request), request


def test_every_ranked_cluster_is_opened_by_every_rule() -> None:
    for request in requests(500, seed=3):
        answer = ask(**request)
        read, day = reading.read(RULES, request)
        held = decide.held_conditions(RULES, read, day or TODAY)
        for one in decide.law_of(RULES, read, day or TODAY):
            opened = decide.allowed(one.part, held)
            for entry in answer["ranked"]:
                assert opened >> CLUSTERS.index(entry["cluster"]) & 1, request


def test_every_cluster_is_either_ranked_or_excluded_with_a_known_cause() -> None:
    causes = {rule.id for rule in RULES.rules} | {
        "certification",
        "exclude",
        "pin",
        "strict_residency",
        "placement",
    }
    dice = random.Random(4)  # noqa: S311 - a seeded test, no secret
    for request in requests(500, seed=4):
        placement = {dice.choice(CLUSTERS): "full"}
        answer = ask(**request, placement=placement)
        ranked = [entry["cluster"] for entry in answer["ranked"]]
        excluded = [entry["cluster"] for entry in answer["excluded"]]
        assert sorted(ranked + excluded) == sorted(CLUSTERS), request
        assert {entry["by"] for entry in answer["excluded"]} <= causes


def test_the_named_missing_conditions_do_open_the_cluster_and_are_the_least() -> None:
    seen = 0
    for request in requests(600, seed=5):
        for entry in ask(**request)["excluded"]:
            for together in entry["missing"] or ():
                seen += 1
                # Certificates and wishes stand in the way too: only the law is asked here.
                bare = {
                    name: value
                    for name, value in request.items()
                    if name not in ("certifications", "pin", "exclude", "strict_residency")
                }

                def opened(conditions: list[str], bare: dict = bare) -> set[str]:
                    left = [c for c in bare.get("withdrawn", []) if c not in conditions]
                    held = [*bare.get("assertions", []), *conditions]
                    return lawful(bare | {"assertions": held, "withdrawn": left})

                assert entry["cluster"] in opened(together), (request, entry)
                for one in together:
                    fewer = [other for other in together if other != one]
                    assert entry["cluster"] not in opened(fewer), (request, entry)
    assert seen > 300


def test_order_and_duplicates_of_lists_change_nothing() -> None:
    for request in requests(300, seed=6):
        turned = {
            name: [*reversed(value), *value]
            if isinstance(value, list) and name != "coordinates"
            else value
            for name, value in request.items()
        }
        assert ask(**turned) == ask(**request)


def test_the_backup_is_in_the_country_of_the_cluster_and_in_the_lawful_set() -> None:
    for country, sector in product(RULES.countries, RULES.sectors):
        backup = ask(country, sector=sector, assertions=CONDITIONS)["backup"]
        if backup is not None:
            assert backup["same_country"]
            assert backup["in_allowed_set"]


@pytest.mark.parametrize("assertions", [[], CONDITIONS], ids=["none asserted", "all asserted"])
def test_every_country_and_sector_gets_an_answer_and_sanctions_are_never_lifted(
    assertions: list[str],
) -> None:
    sanctioned = {"CU", "IR", "KP", "RU", "BY"}
    for country, sector in product(RULES.countries, RULES.sectors):
        answer = ask(country, sector=sector, assertions=assertions)
        assert answer["decision"] in ("allowed", "refused", "needs_review")
        assert (answer["refusal"] == "sanctions") == (country in sanctioned)


def test_obligations_never_change_the_place() -> None:
    kinds = list(RULES.data_kinds)
    for request in requests(200, seed=8):
        plain, told = ask(**request), ask(**request, data_kinds=kinds)
        assert (plain["decision"], plain["cluster"]) == (told["decision"], told["cluster"])
        assert {entry["id"] for entry in told["obligations"]} >= set(kinds)


def test_the_answer_is_the_same_for_every_hash_seed() -> None:
    program = (
        "import json, geo_router;"
        "print(json.dumps([geo_router.route({'country': c, "
        "'data_subject_countries': ['FR', 'BR', 'KE'], "
        "'assertions': ['authority_clauses', 'vendor_dpf'], 'exclude': ['uk', 'india']},"
        "as_of='2026-11-24') for c in ('DE', 'US', 'ZA', 'CA', 'AE')]))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            check=True,
            capture_output=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", "1", "random")
    }
    assert len(printed) == 1
    assert len(json.loads(printed.pop())) == 5


def test_the_canonical_request_reads_as_itself() -> None:
    for request in requests(300, seed=9):
        settled = router.settle(RULES, request, today=TODAY)
        again = router.settle(RULES, settled.form, today=TODAY)
        assert again.form == settled.form
        assert again.answer == settled.answer


def test_an_answer_in_place_loads_nothing_that_a_cold_start_would_feel() -> None:
    """Each of these costs 5 to 100 ms; the room without them costs about 30."""
    heavy = {"msgspec", "logging", "yaml", "jwt", "cryptography", "typer", "azure", "asyncio"}
    program = "import sys, geo_router; geo_router.route({'country': 'FR'}); print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert heavy & set(run.stdout.split()) == set()
