"""Time is aware and runs forward; names are unguessable, passwords fit every rule."""

from __future__ import annotations

import re
from datetime import UTC, timedelta
from typing import TYPE_CHECKING

import pytest

from spaces.adapters.clock import SystemClock
from spaces.adapters.ids import SystemIds
from tests.fakes import FakeClock, FakeIds

if TYPE_CHECKING:
    from spaces.ports import Clock, Ids


@pytest.fixture(params=[FakeClock, SystemClock])
def clock(request: pytest.FixtureRequest) -> Clock:
    return request.param()


@pytest.fixture(params=[FakeIds, SystemIds])
def ids(request: pytest.FixtureRequest) -> Ids:
    return request.param()


def test_now_is_utc_and_never_goes_back(clock: Clock) -> None:
    first, second = clock.now(), clock.now()
    assert first.tzinfo is UTC
    assert first <= second


def test_a_fake_clock_moves_only_when_it_is_told_to() -> None:
    clock = FakeClock()
    start = clock.now()
    assert clock.now() == start
    clock.advance(1.5, hours=2)
    assert clock.now() - start == timedelta(hours=2, seconds=1.5)
    with pytest.raises(ValueError, match="backwards"):
        clock.set(start)


@pytest.mark.parametrize("size", [1, 5, 16, 60])
def test_a_token_has_its_size_and_alphabet(ids: Ids, size: int) -> None:
    assert re.fullmatch(f"[a-z2-7]{{{size}}}", ids.token(size))


def test_no_two_are_alike(ids: Ids) -> None:
    assert len({ids.token(16) for _ in range(500)}) == 500
    assert len({ids.secret() for _ in range(500)}) == 500


def test_a_password_satisfies_the_rules_for_administrators(ids: Ids) -> None:
    for _ in range(500):
        secret = ids.secret()
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{42,}", secret)
        assert re.search("[a-z]", secret)
        assert re.search("[A-Z]", secret)
        assert re.search("[0-9]", secret)


def test_fake_chance_repeats_itself_for_the_same_seed() -> None:
    def drawn(seed: str) -> list[str]:
        ids = FakeIds(seed)
        return [ids.token(8), ids.secret(), ids.token(8)]

    assert drawn("a") == drawn("a") != drawn("b")
