"""Figures and how they are shown: a miss is never hidden."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bench import __main__ as command
from bench import kit
from bench.kit import Figure, Result

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("value", "at_least", "held"), [(5.0, False, True), (5.1, False, False), (4.9, True, False)]
)
def test_a_goal_is_held_on_its_own_side_only(value: float, at_least: bool, held: bool) -> None:
    figure = Figure("opening", value, "s", 5.0, at_least=at_least)
    assert figure.held is held
    assert ("MISSED" in kit.verdict(figure)) is not held


def test_a_quantile_is_a_value_that_was_measured() -> None:
    assert kit.quantile([3.0, 1.0, 2.0], 0.95) == 3.0
    assert kit.quantile([float(n) for n in range(100)], 0.95) == 95.0


def test_what_could_not_be_measured_is_published_as_that() -> None:
    result = Result(name="wire", took_s=1, load_before=0, load_after=0, failure="no stack")
    text = kit.markdown([result], {"date": "today"})
    assert "Not measured: no stack" in text
    assert result.as_json()["failure"] == "no stack"


def test_one_benchmark_that_fails_stops_no_other_and_fails_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        command, "BENCHMARKS", {"missing": "is not there", "kit": "has no measure"}
    )
    assert command.main(["--json"]) == 1
    assert '"name": "kit"' in capsys.readouterr().out


def test_publishing_leaves_what_people_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text(f"before\n{command.BEGIN}old\n{command.END}\nafter\n")
    monkeypatch.setattr(command, "PUBLISHED", page)
    command.publish("new\n")
    assert page.read_text() == f"before\n{command.BEGIN}new\n{command.END}\nafter\n"


def test_one_table_is_published_in_the_place_of_its_older_one() -> None:
    where = {"date": "2026-11-24 10:00 UTC"}
    results = [a_result(name) for name in ("first", "second", "third")]
    page = kit.markdown(results, where)
    newer = replace(a_result("second"), took_s=99)
    changed = kit.replaced(page, newer, {"date": "2026-11-25 10:00 UTC"})
    assert changed.count("### second") == 1
    assert "2026-11-25 10:00 UTC; 99 s" in changed
    assert changed.splitlines()[:10] == page.splitlines()[:10]
    assert [one for one in changed.split("### ")[1:] if not one.startswith("second")] == [
        one for one in page.split("### ")[1:] if not one.startswith("second")
    ]
    more = kit.replaced(page, a_result("fourth"), where)
    assert more.startswith(page.rstrip("\n"))
    assert more.split("### ")[-1].startswith("fourth\n")


def a_result(name: str) -> kit.Result:
    figures = [kit.Figure("speed", 5.0, "1/s")]
    return kit.Result(name=name, took_s=3, load_before=1, load_after=1, figures=figures)
