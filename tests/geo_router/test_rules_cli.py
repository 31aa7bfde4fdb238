"""`kpax rules` and `kpax compliance`: what they print and how they exit."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from geo_router import compliance, tables
from geo_router.rulebook import cli as rules_cli
from geo_router.rulebook import sources
from geo_router.rulebook.cli import compliance_app, rules_app
from spaces import client
from tests.geo_router.builders import CLUSTERS, TODAY

if TYPE_CHECKING:
    from pathlib import Path

    import typer

RULES = tables.load()


def run(app: typer.Typer, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.stdout


def body(app: typer.Typer, *arguments: str) -> dict:
    code, printed = run(app, *arguments, "--json")
    assert code == 0
    return json.loads(printed)


@pytest.fixture(autouse=True)
def _on_a_fixed_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules_cli, "_today", lambda: TODAY)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(sources.FOLDER, tmp_path / "rules")


def test_lint_exits_0_with_warnings_and_1_with_an_error(folder: Path) -> None:
    assert run(rules_app, "lint")[0] == 0
    text = (folder / "residency_rules.yaml").read_text()
    (folder / "residency_rules.yaml").write_text(
        text.replace("review_by: '2026-12-01'", "review_by: '2020-12-01'")
    )
    code, printed = run(rules_app, "lint", "--rules", str(folder), "--json")
    assert code == 1
    codes = {item["code"] for item in json.loads(printed)["items"] if item["level"] == "error"}
    assert codes == {"review-overdue", "no-entry"}


def test_rules_that_cannot_be_read_exit_2(folder: Path) -> None:
    (folder / "clusters.yaml").write_text("clusters: [")
    assert run(rules_app, "lint", "--rules", str(folder))[0] == 2
    assert run(rules_app, "diff", str(folder), str(sources.FOLDER))[0] == 2
    assert run(rules_app, "diff", str(folder / "none"), str(sources.FOLDER))[0] == 2


def test_compile_check_exits_0_while_the_table_is_current() -> None:
    assert run(rules_app, "compile", "--check")[0] == 0


def test_diff_names_answers_and_spaces(folder: Path, tmp_path: Path) -> None:
    text = (folder / "residency_rules.yaml").read_text()
    changed = text.replace(
        "countries: [KE]\n  allow: []", "countries: [KE]\n  allow: []\n  home: india"
    )
    assert changed != text
    (folder / "residency_rules.yaml").write_text(changed)
    spaces = tmp_path / "spaces.jsonl"
    spaces.write_text(
        '{"space_id":"s-1","cluster":"south-africa","request":{"country":"KE"}}\n'
        '{"space_id":"s-2","cluster":"france","request":{"country":"DE"}}\n'
    )
    arguments = ("diff", str(sources.FOLDER), str(folder), "--spaces-from", str(spaces))
    found = body(rules_app, *arguments)
    assert {(item["place"], item["old"], item["new"]) for item in found["items"]} == {
        ("KE", "south-africa", "india")
    }
    assert found["spaces"] == [{"space_id": "s-1", "old": "same", "new": "still-allowed"}]
    assert "KE general: south-africa → india" in run(rules_app, *arguments)[1]


def _a_stack(monkeypatch: pytest.MonkeyPatch, **bodies: object) -> None:
    """A running system that answers these GETs."""
    monkeypatch.setattr(client, "connect", lambda: SimpleNamespace(get=bodies.__getitem__))


def test_diff_asks_the_running_stack_for_its_spaces(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (folder / "residency_rules.yaml").read_text()
    (folder / "residency_rules.yaml").write_text(
        text.replace(
            "countries: [KE]\n  allow: []", "countries: [KE]\n  allow: []\n  home: india"
        )
    )
    items = [
        {"space_id": "s-1", "cluster": "south-africa", "request": {"country": "KE"}},
        {"space_id": "s-2", "cluster": "france", "request": {"country": "DE"}},
    ]
    _a_stack(monkeypatch, **{"/route/requests": {"items": items}})
    found = body(rules_app, "diff", str(sources.FOLDER), str(folder), "--spaces")
    assert found["spaces"] == [{"space_id": "s-1", "old": "same", "new": "still-allowed"}]


def test_what_asks_a_stack_exits_6_where_none_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KPAX_API_URL", raising=False)
    monkeypatch.setattr(client, "_resolvers", [])
    assert run(rules_app, "reviews")[0] == 6
    assert run(rules_app, "diff", str(sources.FOLDER), str(sources.FOLDER), "--spaces")[0] == 6


def test_reviews_are_printed_as_the_stack_lists_them(monkeypatch: pytest.MonkeyPatch) -> None:
    item = {
        "space_id": "s-1",
        "name": "acme",
        "cluster": "india",
        "standing": "not-allowed",
        "today": None,
        "rules": ["eu-gdpr"],
        "data_version": "v",
        "data_hash": "sha256:x",
        "day": TODAY,
        "needs_a_person": True,
    }
    _a_stack(monkeypatch, **{"/route/reviews": {"items": [item]}})
    assert body(rules_app, "reviews") == {"items": [item]}
    assert "not-allowed" in run(rules_app, "reviews")[1]


def test_show_takes_a_rule_or_a_country() -> None:
    assert body(rules_app, "show", "eu-gdpr") == body(rules_app, "show", "el")
    assert body(rules_app, "show", "xk")["id"] == "europe-gdpr-like"
    assert run(rules_app, "show", "narnia")[0] == 2


def test_coverage_has_every_place_and_stale_the_dated_rules_first() -> None:
    places = {item["place"] for item in body(rules_app, "coverage")["items"]}
    assert places == set(RULES.countries) | set(RULES.subdivisions)
    days = [item["review_by"] for item in body(rules_app, "stale")["items"]]
    dated = [day for day in days if day]
    assert days[: len(dated)] == sorted(dated)
    assert len(dated) == 5


def test_the_register_counts_what_the_data_hold() -> None:
    found = body(compliance_app, "list")
    assert (found["listed"], len(found["items"]), found["ours"]) == (98, 98, [])
    audited = {row["cluster"]: row["audited_and_current"] for row in found["counts"]}
    assert set(audited) == set(CLUSTERS)
    assert (min(audited.values()), max(audited.values())) == (16, 22)
    for row in found["counts"]:
        by_hand = [
            item
            for item in found["items"]
            if row["cluster"] in item["clusters"]
            and item["scope"] in ("commercial", "commercial+government")
            and item["status"] in ("current", "renamed")
        ]
        assert row["audited_and_current"] == len(by_hand)
        assert row["carried"] == sum(
            row["cluster"] in item["clusters"] for item in found["items"]
        )


def test_nothing_claims_that_we_are_certified() -> None:
    found = body(compliance_app, "list")
    assert {item["held_by"] for item in found["items"]} == {"platform vendor"}
    assert "We hold none ourselves." in run(compliance_app, "list")[1]
    assert "never says that KPAX Cloud or the customer complies" in found["claim"].replace(
        "\n", " "
    )


def test_a_cluster_is_known_by_its_other_names() -> None:
    assert body(compliance_app, "for", "--cluster", "England") == body(
        compliance_app, "for", "--cluster", "uk"
    )
    assert run(compliance_app, "for", "--cluster", "mars")[0] == 2


def test_one_offering_has_scope_status_and_source() -> None:
    shown = body(compliance_app, "show", "iso-27001")
    assert shown["clusters"] == list(CLUSTERS)
    assert shown["source"].startswith("https://")
    assert (shown["status"], shown["audited_and_current"]) == ("current", True)
    assert run(compliance_app, "show", "iso-99999")[0] == 2
    assert run(compliance_app, "list", "--status", "good")[0] == 2


def test_the_matrix_is_offerings_by_clusters() -> None:
    rows = body(compliance_app, "matrix")["items"]
    assert len(rows) == 98
    for row in rows:
        offering = RULES.offerings[row["offering"]]
        carried = [name for at, name in enumerate(CLUSTERS) if offering.clusters >> at & 1]
        assert [name for name in CLUSTERS if row[name]] == carried
        marks = {row[name] for name in carried}
        assert marks <= {"+" if compliance.is_audited_and_current(offering) else "x"}
