"""Every single fault at every port call; in several files, so that both cores have work."""

from __future__ import annotations

import pytest

from tests.simworld.crash_points import single_faults

NAMES = ("suspend", "resume", "rotate_secrets")


@pytest.mark.parametrize("name", NAMES)
def test_every_single_fault_is_survived(name: str) -> None:
    tally = single_faults(name)
    assert tally.is_good(), tally.failures[:5]
