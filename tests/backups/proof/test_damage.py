"""Fifty damages, a thousand in `make soak`: each is found by a scrub and by a restore.

Found by a scrub: exit 7, and the object is named. Found by a restore: of a snapshot that needs what
was damaged, exit 7 and the object and the snapshot are named; and never are other rows or files
restored with exit 0. What no restore needs (j/, v/, lock) stops none.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.backups.proof.place import Place, State

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.stack

WAYS = ("flip", "flip", "cut", "lengthen", "exchange", "replay", "remove", "empty")
NEEDED = ("k/", "p/", "s/")


@dataclass(slots=True)
class Days:
    """A store of four snapshots, what each must give, and the store as it was after each."""

    place: Place
    states: dict[str, State] = field(default_factory=dict[str, State])
    copies: list[Path] = field(default_factory=list)


@pytest.fixture(scope="module")
def days(new_place: Callable[[], Place]) -> Days:
    place, random = new_place(), Random(7)  # noqa: S311 - a test's dice
    place.fill(random)
    made = Days(place)
    for day in range(4):
        if day:
            place.change(random)
        answer = place.back_up()
        assert (answer.exit, answer.shown["state"]) == (0, "complete"), answer.said
        made.states[answer.shown["backup_id"]] = place.state()
        copy = place.root / f"after-{day}"
        shutil.copytree(place.store, copy)
        made.copies.append(copy)
    for backup_id, state in made.states.items():
        assert place.restored(backup_id)[1] == state
    scrub = place.call("verify", "--full")
    assert (scrub.exit, scrub.named) == (0, set())
    return made


def damage(days: Days, name: str, way: str, random: Random) -> str:
    """Do it to a fresh copy of the store; answers what was done, nothing where it changes nothing."""
    store = days.place.store
    shutil.rmtree(store)
    shutil.copytree(days.copies[-1], store)
    path = store / name
    before = path.read_bytes()
    if way == "flip":
        at, bit = random.randrange(len(before)), random.randrange(8)
        path.write_bytes(before[:at] + bytes([before[at] ^ 1 << bit]) + before[at + 1 :])
        return f"bit {bit} of byte {at} of {len(before)} flipped"
    if way == "remove":
        path.unlink()
        return "removed"
    others = [
        store / other
        for other in days.place.objects()
        if other[:2] == name[:2] and other != name
    ]
    older = [copy / name for copy in days.copies if (copy / name).exists()]
    other = random.choice(others or older)
    new = {
        "cut": before[: random.randrange(len(before))],
        "lengthen": before + b"\0",
        "empty": b"",
        "exchange": other.read_bytes(),
        "replay": (others[0] if others else older[0]).read_bytes(),
    }[way]
    if way == "exchange" and others:
        other.write_bytes(before)
    path.write_bytes(new)
    return f"{way}, with {other.name}" if new != before else ""


def prove(days: Days, name: str, way: str, random: Random) -> bool:
    """Damage one object and hold what must be found; false where nothing was changed."""
    done = damage(days, name, way, random)
    if not done:
        return False
    place = days.place
    told = f"{name}: {done}"
    scrub = place.call("verify", "--full")
    assert scrub.exit == 7, told
    assert name in scrub.named, (told, scrub.shown)
    found = next(one for one in scrub.shown["findings"] if one["object"] == name)
    needing = [one for one in found["snapshots"] if one in days.states]
    for backup_id in {random.choice(list(days.states)), *needing[:1]}:
        answer, state = place.restored(backup_id)
        if answer.exit == 0:
            assert state == days.states[backup_id], told
            # A pack holds what this snapshot does not need, too.
            assert name.startswith("p/") or backup_id not in needing, told
        else:
            assert answer.exit == 7, (told, answer)
            assert answer.named, (told, answer.shown)
    if found["affects"] and needing and name.startswith("p/"):
        refused = [one for one in needing if place.restored(one)[0].exit == 7]
        assert refused, f"{told}: no restore finds it"
    return True


def campaign(days: Days, count: int, seed: int) -> int:
    """So many damages of objects of every kind that a restore needs; answers how many were done."""
    random = Random(seed)  # noqa: S311 - a test's dice
    names = {kind: [name for name in named(days) if name.startswith(kind)] for kind in NEEDED}
    assert all(names.values()), "there is an object of every kind"
    done = 0
    while done < count:
        kind = random.choice(NEEDED)
        done += prove(days, random.choice(names[kind]), random.choice(WAYS), random)
    return done


def named(days: Days) -> list[str]:
    """Objects of the whole store."""
    copy = days.copies[-1]
    return sorted(str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file())


def test_fifty_damages_are_found_by_scrub_and_by_restore(days: Days) -> None:
    assert campaign(days, 50, seed=1) == 50


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", range(10))
def test_a_thousand_damages_are_found_by_scrub_and_by_restore(days: Days, seed: int) -> None:
    assert campaign(days, 100, seed=100 + seed) == 100


@pytest.mark.parametrize("way", ["flip", "cut", "exchange", "remove", "empty"])
def test_what_no_restore_needs_stops_neither_restore_nor_backup(days: Days, way: str) -> None:
    place, random = days.place, Random(3)  # noqa: S311 - a test's dice
    (days.copies[-1] / "lock").write_bytes(b"left behind")
    newest, state = list(days.states.items())[-1]
    for name in named(days):
        if not name.startswith(("j/", "v/", "lock")):
            continue
        damage(days, name, way, random)
        if name != "lock" or way != "remove":
            assert place.restored("latest")[1] == state, (name, way)
            assert place.call("list").exit == 0
    answer = place.back_up()
    assert answer.exit == 0, answer.said
    assert place.restored(newest)[1] == state
    shutil.rmtree(place.store)
    shutil.copytree(days.copies[-1], place.store)
