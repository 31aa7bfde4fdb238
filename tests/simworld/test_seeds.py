"""Seeded days that fit into `make test`, the same for the same seed in any process; the long ones."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simworld import actions as do
from tests.simworld import host, seeds
from tests.simworld.crash_points import clean, with_faults
from tests.simworld.doors import Fault
from tests.simworld.loop import EscapeError
from tests.simworld.operations import OPERATIONS
from tests.simworld.seeds import Play, drawn, fails, shortened, tried
from tests.simworld.world import World

ROOT = Path(__file__).parents[2]
QUICK = 40
PAIRS = 4
SAME = 7
# Prints the trace of one seed, and nothing else.
PRINTS = (
    "from tests.simworld import host\n"
    "from tests.simworld.seeds import Play, drawn\n"
    "with host.in_place():\n"
    f"    play = Play({SAME})\n"
    f"    play.run(drawn({SAME}))\n"
    "print('\\n'.join(play.world.trace))\n"
)


@pytest.mark.parametrize("first", range(1, QUICK + 1, 10))
def test_seeded_days_end_well(first: int) -> None:
    told = [line for seed in range(first, first + 10) if (line := tried(seed))]
    assert not told, "\n".join(told)


@pytest.mark.parametrize("name", OPERATIONS)
def test_pairs_of_faults_are_survived(name: str) -> None:
    """Two faults of one run; the second may stand at a call that the clean run never makes."""
    wrong = some_pairs(name, PAIRS)
    assert not wrong, "\n".join(wrong)


def some_pairs(name: str, count: int) -> list[str]:
    chance = random.Random(f"pairs of {name}")  # noqa: S311 - the same pairs each time
    calls, wrong = len(clean(name)), list[str]()
    for _ in range(count):
        first, second = sorted(chance.sample(range(1, calls + 12), 2))
        faults = {first: chance.choice(list(Fault)), second: chance.choice(list(Fault))}
        ending = with_faults(OPERATIONS[name], faults)
        if ending.broken or ending.leaked:
            wrong.append(f"{name} {faults}: {ending.broken}")
    return wrong


@pytest.mark.soak
@pytest.mark.parametrize("name", OPERATIONS)
def test_very_many_pairs_of_faults_are_survived(name: str) -> None:
    wrong = some_pairs(name, 400)
    assert not wrong, "\n".join(wrong)


@pytest.mark.soak
@pytest.mark.parametrize("part", range(20))
def test_very_many_seeded_days_end_well(part: int) -> None:
    """`make soak`, with SEEDS=10000 unless said otherwise."""
    each = int(os.environ.get("SEEDS", "10000")) // 20
    first = 1 + part * each
    told = [line for seed in range(first, first + each) if (line := tried(seed))]
    assert not told, "\n".join(told)


def test_the_same_seed_is_the_same_trace_in_every_process() -> None:
    traces = {
        subprocess.run(
            [sys.executable, "-c", PRINTS],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
            check=True,
            capture_output=True,
            timeout=60,
        ).stdout
        for hash_seed in ("0", "1", "42")
    }
    assert len(traces) == 1
    assert traces.pop().count(b"\n") > 200


def test_a_script_that_fails_is_made_shorter_and_can_be_replayed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def loses(play: Play, number: int) -> None:
        assert do.space_id(number) not in play.world.rules.spaces, "a bug of this test"

    monkeypatch.setitem(seeds.STEPS, "fill", loses)
    script = [*drawn(3), ("moves", {"count": 80}), ("fill", {"number": 1})]
    wrong = fails(3, script)
    short = shortened(3, script, wrong)
    assert len(short) < len(script)
    assert [name for name, _ in short][-1] == "fill"
    with pytest.raises(AssertionError, match="a bug of this test"):
        Play(3).run(short)


def test_a_day_holds_every_kind_of_step() -> None:
    """A campaign that never loses a message or an hour would prove nothing."""
    names = {name for seed in range(1, 300) for name, _ in drawn(seed)}
    assert names == set(seeds.STEPS)


def test_who_opens_a_socket_is_found() -> None:
    """Nothing of a handler gets out but through a port."""

    async def strays() -> None:
        import asyncio  # noqa: PLC0415

        await asyncio.open_connection("127.0.0.1", 9)

    async def waits_in_a_thread() -> None:
        import asyncio  # noqa: PLC0415

        await asyncio.to_thread(socket.gethostname)

    for work in (strays, waits_in_a_thread):
        world = World()
        host.CURRENT = world
        world.begin("stray", work())
        with pytest.raises(EscapeError):
            world.advance(1)
        world.close()


def test_no_handler_opens_a_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocking way out, too: a whole life with every socket forbidden."""

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened outside of a port")

    monkeypatch.setattr(socket.socket, "connect", forbidden)
    monkeypatch.setattr(socket, "create_connection", forbidden)
    for name in OPERATIONS:
        clean(name)
