"""Runs that are killed at random points: nothing half is visible, and the next run goes on.

Ten kills here, two hundred in `make soak`; the point is a random share of a whole run's time.
"""

# ruff: noqa: S608 - statements with numbers of a test
from __future__ import annotations

import os
import signal
import subprocess
import time
from random import Random
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.backups.proof.place import Place

pytestmark = pytest.mark.stack

MIB = 1 << 20
# What may be sent again: what no journal told of yet, and the segment that was being read.
AGAIN = 64 * MIB + 16 * MIB


def run(place: Place, *, kill_after_s: float | None = None) -> bool:
    """A backup in a process of its own; true when it was killed before its end."""
    process = place.started("backup", *place.backup_options())
    try:
        out, said = process.communicate(timeout=kill_after_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True
    assert process.returncode == 0, (out, said)
    return False


def stored(place: Place) -> int:
    """Bytes of all packs."""
    return sum(
        (place.store / name).stat().st_size for name in place.objects() if name[0] == "p"
    )


def new_data(place: Place, random: Random, mib: int) -> None:
    """Files and rows that no compressor makes smaller, in place of those of before."""
    for number in range(mib):
        (place.files / f"large-{number}").write_bytes(random.randbytes(MIB))
    place.cluster.sql(
        place.database,
        "CREATE TABLE IF NOT EXISTS large (id int, data bytea)",
        "TRUNCATE large",
        "INSERT INTO large SELECT n, decode(md5(random()::text), 'hex') FROM"
        f" generate_series(1, {mib * 1000}) n",
    )


def campaign(place: Place, kills: int, *, seed: int, mib: int) -> int:
    """So many killed runs; answers how many snapshots were restored and compared."""
    random = Random(seed)  # noqa: S311 - a test's dice
    place.fill(random, rows=2000, files=20)
    assert not run(place)
    states = {place.listed()[-1]: place.state()}
    began = time.monotonic()
    new_data(place, random, mib)
    assert not run(place)
    whole_s = max(time.monotonic() - began, 0.3)
    states[place.listed()[-1]] = place.state()
    killed = compared = 0
    while killed < kills:
        new_data(place, random, mib)
        before, seen = stored(place), place.listed()
        # Two kills in a row now and then: what a killed continuation leaves is continued as well.
        for _ in range(random.choice([1, 1, 2])):
            killed += run(place, kill_after_s=random.uniform(0.05, whole_s))
            assert set(place.listed()) - set(states) <= set(place.listed()) - set(seen)
            assert place.call("verify", "--full").exit == 0, "what is visible is whole"
        assert not run(place)
        for backup_id in set(place.listed()) - set(states):
            states[backup_id] = place.state()
        sent = stored(place) - before
        assert sent <= 1.1 * mib * MIB + AGAIN, f"{sent / MIB:.0f} MiB for {mib}"
        newest = place.listed()[-1]
        for backup_id in {newest, random.choice(list(states))}:
            assert place.restored(backup_id)[1] == states[backup_id]
            compared += 1
    return compared


def test_killed_runs_leave_nothing_half_and_are_continued(place: Place) -> None:
    assert campaign(place, 10, seed=1, mib=12) >= 10


@pytest.mark.timeout(300)
def test_what_a_killed_run_had_stored_is_not_all_sent_again(place: Place) -> None:
    random = Random(5)  # noqa: S311 - a test's dice
    mib = 240
    new_data(place, random, mib)
    process = place.started("backup", *place.backup_options())
    while not place.store.exists() or stored(place) < 150 * MIB:
        assert process.poll() is None, "it was too fast to be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert place.listed() == []
    assert not run(place)
    assert stored(place) <= 1.02 * mib * MIB + AGAIN
    assert place.restored("latest")[1] == place.state()


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", range(10))
def test_two_hundred_killed_runs(place: Place, seed: int) -> None:
    campaign(place, 20, seed=10 + seed, mib=[4, 12, 40, 100][seed % 4])
