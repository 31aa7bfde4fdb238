"""The golden table, the report of a change, and what a change means for existing spaces."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from geo_router import lookup, reading, tables
from geo_router.rulebook import compile as compiling
from geo_router.rulebook import diff, sources
from geo_router.rulebook.reevaluate import Standing, Stored, review
from tests.geo_router.builders import TODAY

GOLDEN = Path(__file__).parent / "golden" / "decisions.csv"
OLD = tables.load()


def test_every_answer_is_the_one_that_was_reviewed() -> None:
    """After an intended change: `kpax rules golden` writes the table, and its diff is the review."""
    assert diff.as_csv(lookup.lines(OLD, today=TODAY)) == GOLDEN.read_text()


def test_the_golden_table_has_every_code_and_subdivision_in_every_sector() -> None:
    lines = lookup.lines(OLD, today=TODAY)
    assert len(lines) == (250 + len(OLD.subdivisions)) * 5
    assert len({line[:2] for line in lines}) == len(lines)


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """The rules with one change: health data of the UAE stay under any condition."""
    rules = shutil.copytree(sources.FOLDER, tmp_path / "rules")
    text = (rules / "residency_rules.yaml").read_text()
    start = text.index("- id: uae\n")
    part = text.index("    health:\n", start)
    end = text.index("      why: 'Art. 13", part)
    refusal = "    health:\n      refuse:\n        kind: localisation\n        reason: drill\n"
    (rules / "residency_rules.yaml").write_text(text[:part] + refusal + text[end:])
    return rules


def test_a_change_of_one_rule_is_told_in_words_and_touches_nothing_else(changed: Path) -> None:
    found = diff.changes(OLD, diff.load(changed), today=TODAY)
    assert [str(change) for change in found] == [
        "AE health: refused (condition-required) → refused (localisation)"
    ]
    assert diff.changes(OLD, OLD, today=TODAY) == []


def test_a_compiled_file_and_its_folder_load_the_same() -> None:
    assert diff.load(sources.FOLDER).hash == diff.load(tables.COMPILED).hash == OLD.hash
    assert OLD.hash.endswith(hashlib.sha256(compiling.compiled()).hexdigest())


def stored(name: str, cluster: str, **request: object) -> Stored:
    read, _ = reading.read(OLD, request)
    return Stored(space_id=name, cluster=cluster, request=reading.canonical(OLD, read, None))


def test_a_change_lists_exactly_the_spaces_it_touches(changed: Path) -> None:
    spaces = [
        stored("s-1", "india", country="AE"),
        stored("s-2", "india", country="AE", sector="health", assertions=["sector_exception"]),
        stored("s-3", "france", country="DE", sector="health"),
        stored("s-4", "uk", country="US", pin="uk"),
    ]
    before = list(review(OLD, spaces, today=TODAY))
    assert [found.standing for found in before] == [Standing.SAME] * 4
    after = list(review(diff.load(changed), spaces, today=TODAY))
    assert [found.space_id for found in after if found.needs_a_person] == ["s-2"]
    assert (after[1].standing, after[1].today) == (Standing.NOT_ALLOWED, None)


def test_the_four_standings() -> None:
    found = review(
        OLD,
        [
            stored("same", "france", country="DE"),
            stored("still", "uk", country="DE"),
            stored("expired", "united-states", country="DE"),
            stored("never", "india", country="DE"),
            stored("refused", "france", country="CU"),
            stored("wish", "uk", country="DE", exclude=["uk"]),
            Stored(space_id="unreadable", cluster="uk", request={"country": "QQ"}),
        ],
        today=TODAY,
    )
    assert {one.space_id: str(one.standing) for one in found} == {
        "same": "same",
        "still": "still-allowed",
        "expired": "condition-expired",
        "never": "not-allowed",
        "refused": "not-allowed",
        "wish": "not-allowed",
        "unreadable": "not-allowed",
    }
