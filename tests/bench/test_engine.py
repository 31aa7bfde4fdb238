"""The comparison of backup tools: what a command took, and which goals its samples reach."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.engine import compare, dated, figures, watch
from bench.engine.rounds import PHASES, Sample, Samples

if TYPE_CHECKING:
    from bench import kit


def samples(walls: dict[str, float], *, stored: dict[str, int] | None = None) -> Samples:
    """Three rounds of every phase; the second is the median one."""
    made = Samples()
    for phase in PHASES:
        for tool, wall in walls.items():
            for factor in (9.0, 1.0, 0.5):
                size = (stored or {}).get(tool, 1000)
                made.add(phase, tool, Sample(wall * factor, 1.0, 50.0, size, 6))
    return made


def named(found: list[kit.Figure], name: str) -> kit.Figure:
    return next(figure for figure in found if figure.name == name)


def test_a_ratio_is_that_of_the_medians() -> None:
    found = figures.of_rounds(samples({"engine": 2.0, "restic": 11.0, "borg": 9.0}), size=1)
    faster = named(found, "… unchanged, engine faster than restic")
    assert (faster.value, faster.held) == (5.5, True)
    assert named(found, "… unchanged, engine faster than borg").held is False


def test_fewer_bytes_are_counted_against_each_rival() -> None:
    sizes = {"engine": 1000, "restic": 6900, "borg": 7000}
    found = figures.of_rounds(
        samples({"engine": 1.0, "restic": 1.0, "borg": 1.0}, stored=sizes), size=1
    )
    assert named(found, "… uniform, engine smaller than restic").held is False
    assert named(found, "… uniform, engine smaller than borg").held is True
    assert named(found, "… recent, engine smaller than restic").held is True


def test_a_rival_that_is_missing_has_no_figures_and_misses_no_goal() -> None:
    found = figures.of_rounds(samples({"engine": 1.0, "pipes": 1.2}), size=1)
    assert not any("restic" in figure.name for figure in found)
    assert named(found, "… restore, engine faster than pipes").held is True


def test_what_a_tree_takes_is_summed() -> None:
    hungry = "b = b'x' * (60 << 20); import subprocess, sys; "
    child = f"{sys.executable} -c \"b = b'x' * (50 << 20); import time; time.sleep(0.3)\""
    argv = [sys.executable, "-c", hungry + f"subprocess.run({child!r}, shell=True)"]
    taken = watch.run(argv, env={}, cwd=Path("/"))
    assert taken.peak_mib > 110
    assert 0.3 <= taken.wall_s < 30
    assert taken.cpu_s > 0


def test_a_command_that_fails_says_what_it_said() -> None:
    with pytest.raises(RuntimeError, match="ended with 3: no such thing"):
        watch.run(["sh", "-c", "echo no such thing >&2; exit 3"], env={}, cwd=Path("/"))


@pytest.mark.parametrize("what", ["bytes", "name", "mode", "missing", "time"])
def test_other_files_are_told_apart(tmp_path: Path, what: str) -> None:
    for name in ("one", "two"):
        files = tmp_path / name / "files"
        files.mkdir(parents=True)
        (files / "letter").write_text("same")
        moment = 5e8 if what == "time" and name == "two" else 4e8
        os.utime(files / "letter", (moment, moment))
    one, two = tmp_path / "one", tmp_path / "two"
    letter = two / "files" / "letter"
    if what != "time":
        compare.require_same_files(one, two, who="nobody")
    match what:
        case "bytes":
            letter.write_text("Same")
        case "name":
            letter.rename(letter.with_name("other"))
        case "mode":
            letter.chmod(0o600)
        case "missing":
            letter.unlink()
        case _:
            pass
    with pytest.raises(RuntimeError, match="somebody restored other files"):
        compare.require_same_files(one, two, who="somebody")


def test_another_day_is_the_same_moment_in_every_zone() -> None:
    day = dated.at("2026-06-01T02:00:00+00:00")
    assert day.now(UTC) == datetime(2026, 6, 1, 2, tzinfo=UTC)


def test_publishing_needs_its_marks_and_keeps_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text("by hand\n")
    monkeypatch.setattr(figures, "PUBLISHED", page)
    with pytest.raises(RuntimeError, match="engine: begin"):
        figures.publish("new\n")
    page.write_text(f"a\n{figures.BEGIN}old\n{figures.END}\nb\n")
    figures.publish("new\n")
    assert page.read_text() == f"a\n{figures.BEGIN}new\n{figures.END}\nb\n"
