"""Many requests: every row is answered in its place, as a single request would be."""

from __future__ import annotations

import csv
import importlib.util
import json
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from geo_router import tables
from geo_router.cli import route_app
from geo_router.rulebook import batch as batching
from geo_router.rulebook.batch import Batch
from spaces.errors import InvalidError
from tests.geo_router.builders import TODAY, ask

if TYPE_CHECKING:
    from pathlib import Path

RULES = tables.load()


def answered(tmp_path: Path, text: str | bytes, suffix: str = ".csv") -> list[list[str]]:
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    source.write_bytes(text if isinstance(text, bytes) else text.encode())
    Batch(RULES, TODAY).run(source, target)
    with target.open(newline="", encoding="utf-8", errors="replace") as file:
        return list(csv.reader(file))


def test_answers_stand_beside_their_rows_in_the_same_order(tmp_path: Path) -> None:
    rows = answered(
        tmp_path,
        "country,sector,assertions\nDE,health,\nTR,,authority_clauses\nCU,,\nKR,public,\n",
    )
    assert rows[0] == ["country", "sector", "assertions", *batching.ADDED]
    assert [row[0] for row in rows[1:]] == ["DE", "TR", "CU", "KR"]
    assert [row[3:] for row in rows[1:]] == [
        ["allowed", "", "france", "francecentral", "eu-gdpr", ""],
        ["allowed", "", "france", "francecentral", "turkey", ""],
        ["refused", "sanctions", "", "", "embargo", ""],
        ["needs_review", "localisation", "", "", "korea", ""],
    ]


def test_a_bad_row_stops_nothing(tmp_path: Path) -> None:
    long = b"x" * 200_000
    rows = answered(
        tmp_path,
        b"country,sector\nDE,health\nZZ,\nDE,mining\nDE\nDE,health,x\n\xff,\n"
        + long
        + b",\n\n,\nFR,\n",
    )
    outcomes = [(row[2], row[3]) for row in rows[1:]]
    bad, unknown = ("refused", "invalid-input"), ("refused", "unknown-country")
    assert outcomes == [
        ("allowed", ""),
        unknown,
        bad,
        bad,
        bad,
        unknown,
        bad,
        bad,
        ("allowed", ""),
    ]
    assert all(row[7] for row in rows[2:-1])
    assert {len(row) for row in rows} == {8}


def test_every_field_can_be_a_column(tmp_path: Path) -> None:
    cells = {
        "country": "CH",
        "subdivision": "CH-ZH",
        "sector": "finance",
        "coordinates": "47.4;8.5",
        "data_subject_countries": "CH; FR",
        "billing_country": "FR",
        "ip_country": "US",
        "assertions": "vendor_dpf;explicit_consent",
        "withdrawn": "transfer_clauses",
        "certifications": "iso-27001;soc-2",
        "pin": "england",
        "exclude": "india;us",
        "prefer": "latency",
        "strict_residency": "false",
        "allow_fallback": "TRUE",
        "accept_superseded": "false",
        "measured_rtt": "uk=9;uk=8;uk=7",
        "as_of": "2026-11-24",
        "data_kinds": "minors",
    }
    header, row = ",".join(cells), ",".join(cells.values())
    rows = answered(tmp_path, f"{header}\n{row}\n")
    alone = ask(
        country="CH",
        subdivision="CH-ZH",
        sector="finance",
        coordinates=[47.4, 8.5],
        data_subject_countries=["CH", "FR"],
        billing_country="FR",
        ip_country="US",
        assertions=["vendor_dpf", "explicit_consent"],
        withdrawn=["transfer_clauses"],
        certifications=["iso-27001", "soc-2"],
        pin="uk",
        exclude=["india", "us"],
        prefer="latency",
        allow_fallback=True,
        measured_rtt={"uk": [9, 8, 7]},
        data_kinds=["minors"],
    )
    found = dict(zip(rows[0], rows[1], strict=True))
    assert (found["decision"], found["cluster"], found["error"]) == ("allowed", "uk", "")
    assert alone["cluster"] == "uk"
    assert found["rules"].split(";") == list(
        dict.fromkeys(rule["id"] for rule in alone["rules"])
    )


@pytest.mark.parametrize("header", ["", "country,colour\n", "country,country\n", "country,\n"])
def test_a_header_that_is_none_is_refused_and_leaves_no_file(
    tmp_path: Path, header: str
) -> None:
    with pytest.raises(InvalidError, match="header"):
        answered(tmp_path, f"{header}DE,x\n" if header else "")
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_json_lines_keep_the_request_and_add_the_answer(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(
        b'{"country":"DE","sector":"health"}\n\n{"country":"DE","country":"FR"}\n[1]\n\xff\n'
        b'{"country":"DE","x":"' + b"y" * 20_000 + b'"}\n{"country":"CU"}'
    )
    count = Batch(RULES, TODAY).run(source, target)
    found = [json.loads(line) for line in target.read_text().splitlines()]
    assert (count.rows, count.bad) == (6, 4)
    assert found[0] == {
        "country": "DE",
        "sector": "health",
        "decision": "allowed",
        "refusal": None,
        "cluster": "france",
        "azure_region": "francecentral",
        "rules": ["eu-gdpr"],
        "error": None,
    }
    assert [one["refusal"] for one in found[1:]] == [*["invalid-input"] * 4, "sanctions"]
    assert all(one["error"] for one in found[1:5])


def test_every_answered_line_is_json_though_its_numbers_are_out_of_bounds() -> None:
    line = b'{"country":"DE","coordinates":[1e999,' + b"9" * 40 + b"]}"
    row, answered = Batch(RULES, TODAY).answered_line(line)
    strict = json.loads(answered, parse_constant=pytest.fail)
    assert (row.refusal, strict["refusal"]) == ("invalid-input", "invalid-input")


def test_a_forgotten_row_is_answered_as_the_remembered_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "country\n" + "".join(f"{code}\n" for code in list(RULES.countries) * 2)
    remembered = answered(tmp_path, text)
    monkeypatch.setattr(batching, "MOST_REMEMBERED", 3)
    assert answered(tmp_path, text) == remembered


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(route_app, ["batch", *arguments])
    return result.exit_code, result.stdout


def test_the_command_exits_1_when_a_row_was_bad(tmp_path: Path) -> None:
    good, bad, out = tmp_path / "good.csv", tmp_path / "bad.csv", tmp_path / "out.csv"
    good.write_text("country\nDE\n")
    bad.write_text("country\nDE\nZZ\n")
    assert invoke(str(good), str(out)) == (0, f"1 rows, 0 of them bad: {out}\n")
    code, printed = invoke(str(bad), str(out), "--json")
    assert (code, json.loads(printed)) == (1, {"rows": 2, "bad": 1, "target": str(out)})


def test_files_that_cannot_be_used_exit_2(tmp_path: Path) -> None:
    good = tmp_path / "good.csv"
    good.write_text("country\nDE\n")
    for arguments in (
        [str(tmp_path / "none.csv"), str(tmp_path / "out.csv")],
        [str(good), str(good)],
        [str(good), str(tmp_path / "out.jsonl")],
        [str(good), str(tmp_path / "no" / "such" / "out.csv")],
        [str(tmp_path / "in.xlsx"), str(tmp_path / "out.xlsx")],
    ):
        assert invoke(*arguments, "--json")[0] == 2, arguments
    assert good.read_text() == "country\nDE\n"


def test_parquet_is_answered_where_its_library_is_and_asks_for_it_where_not(
    tmp_path: Path,
) -> None:
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    source.write_bytes(b"PAR1 nothing PAR1")
    if importlib.util.find_spec("pyarrow") is None:
        with pytest.raises(InvalidError, match="Parquet needs a library"):
            Batch(RULES, TODAY).run(source, target)
        assert invoke(str(source), str(target))[0] == 2
        assert not target.exists()
        return
    with pytest.raises(InvalidError, match="cannot be read as Parquet"):
        Batch(RULES, TODAY).run(source, target)
    rows = [
        {"country": "DE", "sector": "health"},
        {"country": "CH", "measured_rtt": {"uk": [9.0, 8.0, 7.0], "france": None}},
        {"country": "CH", "coordinates": [47.4, 8.5], "data_subject_countries": ["FR"]},
        {"country": "ZZ"},
        {"country": "DE", "strict_residency": True, "as_of": date(2026, 11, 23)},
        {"country": "DE", "exclude": "uk;india"},
    ]
    library, arrow = (importlib.import_module(name) for name in ("pyarrow.parquet", "pyarrow"))
    library.write_table(arrow.Table.from_pylist(rows, schema=_columns(arrow)), source)
    count = Batch(RULES, TODAY).run(source, target)
    found = library.read_table(target).to_pylist()
    assert (count.rows, count.bad) == (len(rows), 1)
    given = [
        {
            **{name: value for name, value in row.items() if name != "exclude"},
            **({"exclude": ["uk", "india"]} if "exclude" in row else {}),
            **({"as_of": "2026-11-23"} if "as_of" in row else {}),
            **({"measured_rtt": {"uk": [9, 8, 7]}} if "measured_rtt" in row else {}),
        }
        for row in rows
    ]
    for row, request in zip(found, given, strict=True):
        alone = ask(**request)
        told = (row["decision"], row["refusal"], row["cluster"], row["azure_region"])
        assert told == tuple(
            alone[name] for name in ("decision", "refusal", "cluster", "azure_region")
        )
        assert row["rules"] == list(dict.fromkeys(rule["id"] for rule in alone["rules"]))
        assert (row["error"] is None) == ("errors" not in alone)
    library.write_table(arrow.table({"colour": ["red"]}), source)
    with pytest.raises(InvalidError, match="header"):
        Batch(RULES, TODAY).run(source, target)


def _columns(arrow: Any) -> Any:
    samples = arrow.list_(arrow.float64())
    return arrow.schema(
        {
            "country": arrow.string(),
            "sector": arrow.string(),
            "measured_rtt": arrow.struct({"uk": samples, "france": samples}),
            "coordinates": samples,
            "data_subject_countries": arrow.list_(arrow.string()),
            "strict_residency": arrow.bool_(),
            "as_of": arrow.date32(),
            "exclude": arrow.string(),
        }.items()
    )
