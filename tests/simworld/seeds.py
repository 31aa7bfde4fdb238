"""Seeded days: orders, events, verbs, faults and jumps of the clock, drawn and then played.

A seed draws a script, a list of plain actions; the same seed lots who goes on in the scheduler. A
script that breaks an invariant is made shorter for as long as it still does, and printed so that
`replay` plays it again. `python -m tests.simworld.seeds --seeds n --seed k` runs n of them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.fakes import Script as End
from tests.simworld import actions as do
from tests.simworld import host
from tests.simworld.doors import Call, Fault
from tests.simworld.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

type Step = tuple[str, dict[str, Any]]
type Script = list[Step]

DAY_S = 86_400.0
# So many characters of what broke tell which invariant it was.
KIND = 24
JUMPS = (1.0, 5.0, 31.0, 120.0, 600.0, 3_600.0, DAY_S)
LONG_JUMPS = (DAY_S * 7, DAY_S * 30, DAY_S * 90)
# What can stand behind an error of the Resource Manager.
ENDS: dict[str, dict[str, Any]] = {
    "busy": {"failure": ("ServerIsBusy", "not now")},
    "canceled": {"canceled": True},
    "invalid": {"failure": ("InvalidTemplate", "no")},
    "slow": {"duration_s": 900.0, "retry_after_s": 15.0},
    "hung": {"duration_s": 3_600.0, "retry_after_s": 30.0},
}
# The life of a subscription: type, status, and whether the plan changes.
LIFE = (
    ("invoice.payment_failed", "past_due"),
    ("invoice.paid", "active"),
    ("invoice.disputed", "active"),
    ("customer.country_changed", "active"),
    ("suspended", "suspended"),
    ("resumed", "active"),
    ("plan_changed", "active"),
    ("cancelled", "cancelled"),
    ("reactivated", "active"),
)


ACTIONS = ("retry", "skip", "rollback", "abort", "adopt", "replay")
VERBS: dict[str, dict[str, Any]] = {
    "suspend": {},
    "resume": {},
    "cancel": {},
    "quarantine": {},
    "release": {},
    "rotate-secrets": {},
    "resize": {"plan": "premium"},
    "configure": {"settings": {"title": "Werk 2"}},
}


@dataclass(slots=True)
class Budget:
    """How many of each misfortune a day may still bring; crashes stay below the delivery count."""

    faults: int = 0
    crashes: int = 0


class Play:
    """A script in a world of its own."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - the same run for the same seed
        self.world = World(chance=self.chance)
        self.world.misfortune = self._misfortune
        self.budget = Budget()

    def run(self, script: Sequence[Step]) -> None:
        """Play it, then let everything come to rest. Raises where an invariant is broken."""
        try:
            for name, told in script:
                STEPS[name](self, **told)
            self.calm()
            self.world.settle(hours=24 * 14)
        finally:
            self.world.close()

    def calm(self) -> None:
        """Nothing more goes wrong, and whoever slept wakes up."""
        self.budget = Budget()
        self.world.estate.arm.manners.lag_s = 0
        self.world.estate.arm.manners.throttled = False
        for process in self.world.processes:
            process.is_asleep = False
        self.world.advance(600)  # what was asked for is answered, pauses too
        self._go_on()

    def _go_on(self) -> None:
        """Whatever is paused goes on."""
        world = self.world
        for row in world.estate.tables.rows("pauses"):
            of = row.key.removeprefix("cluster!")
            what = "/fleet" if of == row.key else f"/clusters/{of}"
            do.pause(world, what, key="end", again=True)
        for space in world.rules.spaces.values():
            if space.paused is not None:
                do.pause(world, f"/spaces/{space.space_id}", key="end", again=True)

    def _misfortune(self, call: Call) -> Fault | None:
        del call
        if self.budget.faults > 0 and self.chance.random() < 0.04:
            self.budget.faults -= 1
            return self.chance.choice((Fault.FAIL, Fault.LOSE))
        if self.budget.crashes > 0 and self.chance.random() < 0.02:
            self.budget.crashes -= 1
            return self.chance.choice((Fault.DIE_BEFORE, Fault.DIE_AFTER))
        return None

    # --- the steps of a script

    def order(self, number: int, **told: Any) -> None:
        do.order(self.world, number, **told)

    def bill(self, number: int, copies: int = 1, **told: Any) -> None:
        for copy in range(copies):
            do.bill(self.world, number, copy=copy, **told)

    def back_up(self, number: int, key: str) -> None:
        if self._stands(number):
            do.back_up(self.world, number, key=key)

    def restore(self, number: int, key: str) -> None:
        if self._stands(number):
            do.restore(self.world, number, key=key)

    def verb(self, number: int, word: str, key: str, **more: Any) -> None:
        if self._stands(number):
            do.verb(self.world, word, number, key=key, **more)

    def act(self, number: int, action: str, key: str) -> None:
        do.act(self.world, action, number, key=key)

    def pause(self, number: int, what: str, key: str, *, again: bool) -> None:
        space = self.world.rules.spaces.get(do.space_id(number))
        places = {"fleet": "/fleet"}
        if space is not None:
            places |= {
                "space": f"/spaces/{space.space_id}",
                "cluster": f"/clusters/{space.cluster}",
            }
        if what in places:
            do.pause(self.world, places[what], key=key, again=again)

    def fill(self, number: int) -> None:
        space = self.world.rules.spaces.get(do.space_id(number))
        name = space.resources.storage_account if space and space.resources else ""
        account = self.world.estate.accounts.spaces.get(name)
        if (
            space is not None
            and account is not None
            and space.container in account.containers()
        ):
            do.fill(self.world, number)

    def moves(self, count: int) -> None:
        for _ in range(count):
            if not self.world.step():
                self.world.tick()

    def wait(self, seconds: float) -> None:
        self.world.advance(seconds)

    def outage(self, seconds: float) -> None:
        self.world.outage(seconds)

    def faults(self, errors: int, crashes: int) -> None:
        self.budget = Budget(errors, crashes)

    def lose(self, queue: str) -> None:
        """A message that the broker had accepted is gone."""
        there = [each for each in self.world.estate.bus.standing(queue) if each]
        if there:
            each = self.chance.choice(there)
            lost = each.pop(self.chance.randrange(len(each)))
            self.world.note(f"lost {lost.message.message_id}")

    def turn(self, queue: str) -> None:
        """Messages overtake each other."""
        self.chance.shuffle(self.world.estate.bus.standing(queue)[0])

    def lock(self) -> None:
        """A process falls asleep, and its message becomes visible again."""
        held = [one for one in self.world.processes if one in self.world.items]
        if held:
            process = self.chance.choice(held)
            process.is_asleep = True
            self.world.items[process].locked_until = self.world.clock.now()
            self.world.note(f"asleep {process.name}")

    def again(self) -> None:
        """A copy of a message that was handled comes late."""
        if self.world.handled:
            self.world.deliver_again(self.chance.choice(self.world.handled[-20:]))

    def ends(self, number: int, how: str) -> None:
        """How the next PUT of a space's stack ends."""
        name = f"{do.space_id(number)}-1"
        end = End(**{"duration_s": 3.0, "delete_s": 2.0, **ENDS[how]})
        self.world.estate.arm.ends.setdefault(name, []).append(end)

    def manners(self, lag_s: float, *, throttled: bool) -> None:
        self.world.estate.arm.manners.lag_s = lag_s
        self.world.estate.arm.manners.throttled = throttled

    def _stands(self, number: int) -> bool:
        return do.space_id(number) in self.world.rules.spaces


STEPS: dict[str, Callable[..., None]] = {
    name: getattr(Play, name)
    for name in (
        *("order", "bill", "back_up", "restore", "fill", "moves", "wait", "outage", "faults"),
        *("lose", "turn", "lock", "again", "ends", "manners", "verb", "act", "pause"),
    )
}
QUEUES = ("provisioning-steps", "backup-runs")


def drawn(seed: int) -> Script:
    """The script of a seed."""
    chance = random.Random(f"script {seed}")  # noqa: S311
    script: Script = []
    if chance.random() < 0.3:
        script.append(
            (
                "manners",
                {"lag_s": chance.choice((0.0, 2.0, 20.0)), "throttled": chance.random() < 0.3},
            )
        )
    for number in range(1, chance.choice((1, 1, 2)) + 1):
        script += _life(chance, number)
    script = list(_disturbed(chance, script))
    if chance.random() < 0.05:
        script.append(("wait", {"seconds": chance.choice(LONG_JUMPS)}))
    return script


def _life(chance: random.Random, number: int) -> Iterator[Step]:
    """An order, what is paid and said of it, and what is done to it."""
    plan = chance.choice(("starter", "standard", "premium"))
    country = chance.choice(("DE", "FR", "GB", "US", "IN"))
    if chance.random() < 0.3:
        yield "ends", {"number": number, "how": chance.choice(list(ENDS))}
    yield "order", {"number": number, "plan": plan, "country": country}
    yield "moves", {"count": chance.randint(0, 30)}
    sequence = 1
    yield "bill", _told(chance, number, sequence, ("activated", "active"), plan)
    yield "moves", {"count": chance.randint(0, 150)}
    for at in range(chance.choice((0, 1, 2, 4))):
        what = chance.random()
        if what < 0.3:
            yield from _asked(chance, number, f"{number}-{at}")
        elif what < 0.45:
            yield (
                chance.choice(("back_up", "restore")),
                {"number": number, "key": f"{number}-{at}"},
            )
        elif what < 0.5:
            yield "fill", {"number": number}
        else:
            sequence += 1
            said = chance.choice(LIFE)
            if said[0] == "plan_changed":
                plan = chance.choice(("starter", "standard", "premium"))
            yield "bill", _told(chance, number, sequence, said, plan)
        yield "moves", {"count": chance.randint(0, 120)}


def _asked(chance: random.Random, number: int, key: str) -> Iterator[Step]:
    """What operators ask for; some of it is refused, and that is well."""
    told = {"number": number, "key": key}
    what = chance.random()
    if what < 0.15:
        again = chance.random() < 0.3
        place = chance.choice(("space", "cluster", "fleet"))
        yield "pause", {**told, "what": place, "again": again}
    elif what < 0.4:
        yield "act", {**told, "action": chance.choice(ACTIONS)}
    else:
        word = chance.choice(tuple(VERBS))
        yield "verb", {**told, "word": word, **VERBS[word]}


def _told(
    chance: random.Random, number: int, sequence: int, said: tuple[str, str], plan: str
) -> dict[str, Any]:
    return {
        "number": number,
        "sequence": sequence,
        "kind": said[0],
        "status": said[1],
        "plan": plan,
        "copies": chance.choice((1, 1, 1, 2, 3)),
        "names_order": sequence == 1 or chance.random() < 0.5,
    }


def _disturbed(chance: random.Random, script: Script) -> Iterator[Step]:
    """The script with misfortunes in between; some events change places."""
    crashes, locks, lost = chance.randint(0, 3), chance.randint(0, 1), chance.randint(0, 2)
    yield "faults", {"errors": chance.randint(0, 4), "crashes": crashes}
    for step in script:
        yield step
        what = chance.random()
        if what < 0.08 and lost:
            lost -= 1
            yield "lose", {"queue": chance.choice(QUEUES)}
        elif what < 0.14 and locks:
            locks -= 1
            yield "lock", {}
        elif what < 0.22:
            yield "again", {}
        elif what < 0.26:
            yield "turn", {"queue": chance.choice((*QUEUES, do.BILLING))}
        elif what < 0.36:
            yield "wait", {"seconds": chance.choice(JUMPS)}
        elif what < 0.39:
            yield "outage", {"seconds": chance.choice((60.0, 600.0, 7_200.0, DAY_S))}


def replay(seed: int, script: Script) -> list[str]:
    """Play a printed script; answers the trace. Raises where an invariant is broken."""
    with host.in_place():
        play = Play(seed)
        play.run(script)
        return play.world.trace


def fails(seed: int, script: Script) -> str:
    """What a script breaks; empty when it breaks nothing."""
    try:
        Play(seed).run(script)
    except Exception as error:  # noqa: BLE001 - whatever a handler raises is found here
        return f"{type(error).__name__}: {error}"
    return ""


def shortened(seed: int, script: Script, wrong: str, *, most: int = 200) -> Script:
    """The script without what it does not need to fail in the same way."""
    kind = wrong[:KIND]
    left, size = script, max(len(script) // 2, 1)
    while size and most:
        for at in range(0, len(left), size):
            shorter = left[:at] + left[at + size :]
            most -= 1
            if len(shorter) < len(left) and fails(seed, shorter)[:KIND] == kind:
                left = shorter
                break
        else:
            size //= 2
    return left


def told(seed: int, script: Script, wrong: str) -> str:
    """What is printed of a seed that failed: its number, what broke, and how to see it again."""
    lines = "\n".join(f"    {step!r}," for step in script)
    return (
        f"seed {seed}: {wrong}\n"
        "from tests.simworld.seeds import replay\n"
        f"replay({seed}, [\n{lines}\n])\n"
    )


def tried(seed: int) -> str:
    """Run one seed; answers what to print of it, nothing when it passed."""
    script = drawn(seed)
    wrong = fails(seed, script)
    if not wrong:
        return ""
    short = shortened(seed, script, wrong)
    return told(seed, short, fails(seed, short) or wrong)


def _tried_in_place(seed: int) -> str:
    with host.in_place():
        return tried(seed)


def main() -> int:
    """Run the seeds; the last line counts them, each failing one is named before."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, required=True, help="how many")
    parser.add_argument("--seed", type=int, default=1, help="the first; 1 unless given")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    asked = parser.parse_args()
    numbers = range(asked.seed, asked.seed + asked.seeds)
    failed = 0
    with multiprocessing.Pool(min(asked.jobs, len(numbers)) or 1) as pool:
        for seed, line in zip(numbers, pool.imap(_tried_in_place, numbers, 20), strict=True):
            if line:
                failed += 1
                sys.stdout.write(f"failed seed {seed}\n{line}\n")
                sys.stdout.flush()
    sys.stdout.write(f"{len(numbers) - failed} passed, {failed} failed\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
