"""The data: nothing lost, nothing stale, one change of a rule touches what it says."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from itertools import product
from pathlib import Path

import jsonschema
import pytest
import yaml

from geo_router import router, tables, wire
from geo_router.rulebook import compile as compiling
from geo_router.rulebook import sources
from tests.geo_router.builders import TODAY

CASES = Path(__file__).parent / "routing_cases.yaml"
SOURCES = sources.read()
FRESH = compiling.compiled()


def test_the_compiled_table_is_what_the_files_give() -> None:
    assert compiling.main(["--check"]) == 0
    assert tables.COMPILED.read_bytes() == FRESH


def test_a_stale_table_is_noticed(tmp_path: Path) -> None:
    rules = shutil.copytree(sources.FOLDER, tmp_path / "rules")
    out = tmp_path / "compiled.json"
    assert compiling.main(["--check", "--rules", str(rules), "--out", str(out)]) == 1
    assert compiling.main(["--rules", str(rules), "--out", str(out)]) == 0
    assert compiling.main(["--check", "--rules", str(rules), "--out", str(out)]) == 0
    text = (rules / "clusters.yaml").read_text()
    (rules / "clusters.yaml").write_text(text + "# a remark\n")
    assert compiling.main(["--check", "--rules", str(rules), "--out", str(out)]) == 1


def test_compiling_twice_gives_the_same_bytes() -> None:
    assert compiling.compiled() == FRESH
    assert tables.read(FRESH).hash == f"sha256:{hashlib.sha256(FRESH).hexdigest()}"


def test_nothing_got_lost() -> None:
    rules, cases = SOURCES.rules.rules, yaml.safe_load(CASES.read_text())["cases"]
    offerings = SOURCES.offerings.offerings
    counts = (len(SOURCES.countries), len(rules), len(offerings), len(cases))
    assert counts == (249, 60, 98, 86)
    assert SOURCES.offerings.listed == len(offerings)
    for ids in (
        [rule.id for rule in rules],
        [offering.id for offering in offerings],
        [case["id"] for case in cases],
        [country.iso2 for country in SOURCES.countries],
    ):
        assert len(ids) == len(set(ids))
    loaded = tables.read(FRESH)
    assert [rule.id for rule in loaded.rules] == [rule.id for rule in rules]
    assert set(loaded.offerings) == {offering.id for offering in offerings}
    codes = {country.iso2 for country in SOURCES.countries}
    assert set(loaded.countries) == codes | {"XK"}
    assert (len(loaded.model.hubs), len(loaded.conditions), len(loaded.clusters)) == (44, 12, 6)


def test_the_ids_are_those_that_were_reviewed() -> None:
    """A digest of all ids: it changes when one is lost, renamed or added, and then needs a look."""
    ids = [
        *sorted(rule.id for rule in SOURCES.rules.rules),
        *sorted(offering.id for offering in SOURCES.offerings.offerings),
        *sorted(country.iso2 for country in SOURCES.countries),
        *sorted(case["id"] for case in yaml.safe_load(CASES.read_text())["cases"]),
    ]
    digest = hashlib.sha256("\n".join(ids).encode()).hexdigest()
    assert digest == "f60be6e68e40f0f7bb0e73d68ab84e7068cef74f1348b7dc4fd3ecdd3c868665"


def test_every_country_stands_in_exactly_one_rule() -> None:
    seen = Counter(code for rule in SOURCES.rules.rules for code in rule.countries)
    assert set(seen) == {country.iso2 for country in SOURCES.countries}
    assert set(seen.values()) == {1}


@pytest.mark.parametrize(
    ("file", "old", "new", "complaint"),
    [
        (
            "residency_rules.yaml",
            "countries: [KE]",
            "countries: [KE, DE]",
            "more than one rule",
        ),
        ("residency_rules.yaml", "countries: [KE]", "countries: []", "differ"),
        ("residency_rules.yaml", "home: uk", "hom: uk", "hom"),
        ("residency_rules.yaml", "allow: [uk, france, canada]", "allow: [mars]", "mars"),
        ("residency_rules.yaml", "[[vendor_hds]]", "[[vendor_hdx]]", "vendor_hdx"),
        ("residency_rules.yaml", "confidence: high", "confidence: certain", "certain"),
        ("residency_rules.yaml", "  home: uk\n", "  home: uk\n  home: france\n", "twice"),
        ("clusters.yaml", "placement_state: open", "placement_state: ajar", "ajar"),
        ("compliance_offerings.yaml", "status: current", "status: good", "good"),
    ],
)
def test_a_typing_error_in_the_rules_is_named(
    tmp_path: Path, file: str, old: str, new: str, complaint: str
) -> None:
    rules = shutil.copytree(sources.FOLDER, tmp_path / "rules")
    text = (rules / file).read_text()
    assert old in text
    (rules / file).write_text(text.replace(old, new, 1))
    with pytest.raises((ValueError, yaml.YAMLError), match=complaint):
        compiling.compiled(rules)


def test_a_changed_rule_changes_the_answers_it_names_and_no_others(tmp_path: Path) -> None:
    rules = shutil.copytree(sources.FOLDER, tmp_path / "rules")
    text = (rules / "residency_rules.yaml").read_text()
    start = text.index("- id: uae\n")
    changed = text[start:].replace("[[sector_exception]]", "[[transfer_clauses]]", 6)
    (rules / "residency_rules.yaml").write_text(text[:start] + changed)
    old, new = tables.read(FRESH), tables.read(compiling.compiled(rules))
    assert old.hash != new.hash

    def outcome(table: tables.Tables, country: str, sector: str) -> tuple:
        request = {"country": country, "sector": sector}
        answer = router.settle(table, request, today=TODAY).answer
        return answer["decision"], answer["refusal"], answer["cluster"]

    touched = {
        (country, sector)
        for country, sector in product(old.countries, old.sectors)
        if outcome(old, country, sector) != outcome(new, country, sector)
    }
    assert touched == {("AE", "health")}
    assert outcome(new, "AE", "health") == ("allowed", None, "india")


def test_the_compiled_tables_are_small() -> None:
    assert len(FRESH) < 200_000


def test_the_schemas_are_what_the_types_give() -> None:
    assert wire.main(["--check"]) == 0


def test_a_change_of_the_rules_is_entered_with_its_author() -> None:
    log = yaml.safe_load((sources.FOLDER / "CHANGES.yaml").read_text())["changes"]
    entry = log[0]
    assert entry["version"] == SOURCES.rules.version
    assert entry["data_hash"] == f"sha256:{hashlib.sha256(FRESH).hexdigest()}"
    assert entry["author"] == "rules-editor"
    assert entry["reviewer"] is None or entry["reviewer"] != entry["author"]
    assert {"what", "why", "source", "date"} <= entry.keys()


def test_every_file_of_the_rules_fits_its_schema_and_the_schema_is_current(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in sources.schemas():
        schema = json.loads((sources.FOLDER / "schema" / name).with_suffix(".json").read_text())
        check = jsonschema.Draft202012Validator(schema)
        written = yaml.safe_load((sources.FOLDER / name).read_text())
        # A date that YAML reads as one is text to the shapes.
        told = json.loads(json.dumps(written, default=str))
        check.validate(told)
        assert not check.is_valid({**told, "no_such_field": 1}), name
    assert compiling.main(["--check"]) == 0
    shutil.copytree(sources.FOLDER, tmp_path / "rules")
    monkeypatch.setattr(sources, "FOLDER", tmp_path / "rules")
    (tmp_path / "rules" / "schema" / "clusters.json").write_text("{}")
    assert compiling.main(["--check"]) == 1
