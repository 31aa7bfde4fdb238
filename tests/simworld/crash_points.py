"""Every call of a port may go wrong in four ways: every operation must survive every one of them.

`python -m tests.simworld.crash_points --json` runs a clean run of each operation, then each single
fault at each call of it, then the negative controls, and prints what was found; exit 1 unless all
survived, nothing is left over, and every control was caught.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.simworld import host
from tests.simworld.doors import Fault
from tests.simworld.operations import OPERATIONS, prepared, wrong_with
from tests.simworld.world import World

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.simworld.doors import Call
    from tests.simworld.operations import Operation


@dataclass(frozen=True, slots=True)
class Ending:
    """How one run ended: what was broken, what is left over."""

    broken: str
    leaked: int


@dataclass(slots=True)
class Tally:
    """The runs of one operation. `failures` names call, fault and what was broken."""

    calls: int = 0
    faults: int = 0
    survived: int = 0
    leaked: int = 0
    failures: list[str] = field(default_factory=list[str])

    def is_good(self) -> bool:
        """Every run survived, nothing is left over, and there was something to survive."""
        full = self.faults == 4 * self.calls == self.survived
        return full and self.calls > 0 and self.leaked == 0


def clean(name: str) -> list[Call]:
    """The port calls of a run in which nothing goes wrong. Raises where it does."""
    world = World(prepared(name)())
    try:
        OPERATIONS[name].start(world)
        world.settle()
        wrong = wrong_with(world, OPERATIONS[name])
        assert not wrong, wrong
        return list(world.calls)
    finally:
        world.close()


def with_faults(operation: Operation, faults: dict[int, Fault]) -> Ending:
    """One run in which these calls go wrong, to its end."""
    world = World(prepared(operation.name)(), faults=faults)
    try:
        operation.start(world)
        world.settle()
        missing = [number for number in faults if number > world.count]
        assert not missing or len(faults) > 1, f"the run never came to call {missing}"
        return Ending(wrong_with(world, operation), len(world.rules.leaks))
    except AssertionError as error:
        return Ending(str(error) or "an assertion", len([*world.rules._left_over()]))
    except Exception as error:  # noqa: BLE001 - a defect of a handler is a run that did not survive
        return Ending(f"{type(error).__name__}: {error}", 0)
    finally:
        world.close()


def single_faults(name: str, *, part: int = 0, of: int = 1) -> Tally:
    """Every fault at every call of one operation; or a part of them, for a part of the tests."""
    calls = clean(name)
    tally = Tally(calls=len(calls))
    for at, fault in _places(len(calls), part, of):
        ending = with_faults(OPERATIONS[name], {at: fault})
        tally.faults += 1
        tally.leaked += ending.leaked
        if ending.broken or ending.leaked:
            tally.failures.append(f"{name} {at} {calls[at - 1]} {fault}: {ending.broken}")
        else:
            tally.survived += 1
    return tally


def _places(calls: int, part: int, of: int) -> Iterator[tuple[int, Fault]]:
    for at in range(1, calls + 1):
        if at % of == part:
            yield from ((at, fault) for fault in Fault)


def report(names: Iterable[str]) -> tuple[dict[str, object], bool, list[str]]:
    """The document of the contract, whether all is well, and what is not."""
    tallies = {name: single_faults(name) for name in names}
    document: dict[str, object] = {
        "operations": {
            name: {
                "calls": tally.calls,
                "faults": tally.faults,
                "survived": tally.survived,
                "leaked": tally.leaked,
            }
            for name, tally in tallies.items()
        },
        "controls": {},
    }
    failures = [line for tally in tallies.values() for line in tally.failures]
    return document, all(tally.is_good() for tally in tallies.values()), failures


def controlled(document: dict[str, object]) -> list[str]:
    """Add the negative controls to the document; answers what is not as it must be.

    A campaign that finds something in the shipped code proves nothing about a variant of it.
    """
    from tests.simworld.campaigns import CAMPAIGNS  # noqa: PLC0415 - they are made of this module
    from tests.simworld.controls import CONTROLS, caught  # noqa: PLC0415

    wrong = [
        f"campaign {name}: {found}"
        for name, campaign in CAMPAIGNS.items()
        if (found := campaign())
    ]
    found = {name: bool(caught(control)) for name, control in CONTROLS.items()}
    document["controls"] = {
        name: {"caught": was_caught, "by": CONTROLS[name].campaign}
        for name, was_caught in found.items()
    }
    return wrong + [f"control {name} was not caught" for name, was in found.items() if not was]


def main() -> int:
    """Run everything and print the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the document only")
    asked = parser.parse_args()
    with host.in_place():
        document, is_good, failures = report(OPERATIONS)
        failures += controlled(document)
    for line in failures:
        sys.stderr.write(f"{line}\n")
    sys.stdout.write(f"{json.dumps(document, indent=None if asked.json else 2)}\n")
    return 0 if is_good and not failures else 1


if __name__ == "__main__":
    sys.exit(main())
