"""Known-bad variants must be caught, and the shipped code must pass what catches them."""

from __future__ import annotations

import pytest

from tests.simworld.campaigns import CAMPAIGNS
from tests.simworld.controls import CONTROLS, caught

NAMES = (
    *("A", "B", "C", "F", "G", "J", "drop_if_match", "drop_outbox", "drop_undo"),
    *("drop_deadline", "resend_same_id", "unknown_is_absent"),
)


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_a_campaign_finds_nothing_in_the_shipped_code(name: str) -> None:
    assert CAMPAIGNS[name]() == ""


@pytest.mark.parametrize("name", NAMES)
def test_a_known_bad_variant_is_caught(name: str) -> None:
    assert caught(CONTROLS[name])


def test_every_control_has_its_test() -> None:
    assert set(CONTROLS) == set(NAMES)
