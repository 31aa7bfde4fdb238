"""The figures that a simulation can count; one that gets worse fails the build."""

from __future__ import annotations

from tests.simworld import figures


def test_a_cold_opening_costs_at_most_forty_table_transactions() -> None:
    """From the payment on; with the order before it there are a few more."""
    opening = figures.opening()
    assert opening.table_transactions <= 40
    assert opening.with_order <= 42
    assert opening.messages <= 80


def test_a_step_reads_and_writes_its_space_once_and_a_look_writes_nothing() -> None:
    opening = figures.opening()
    assert opening.worst_step <= 2
    assert (opening.worst_look_writes, opening.worst_look_reads) == (0, 1)


def test_the_control_plane_takes_a_small_part_of_a_cold_opening() -> None:
    times = figures.times(40)
    assert times.longest_share_s <= 15
    assert times.longest_share <= 0.04
    assert times.p95_s <= 12 * 60


def test_an_idle_space_costs_next_to_nothing() -> None:
    idle = figures.idle()
    assert 0 < idle.table_transactions <= 30
    assert 0 < idle.messages <= 20
