"""A dozen random histories; `make soak` plays many more."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from backups.database import segments
from spaces.errors import KpaxError
from tests.backups.histories.mutants import (
    any_database,
    overlooking,
    skipping_names,
    uncounted,
    unlocked,
    without,
)
from tests.backups.histories.play import History, WrongSnapshotError
from tests.backups.histories.vault import Engine, Vault

if TYPE_CHECKING:
    from pathlib import Path

    from tests.backups.histories.cluster import Cluster

pytestmark = pytest.mark.stack


@pytest.mark.parametrize("seed", range(12))
def test_every_snapshot_restores_to_what_it_saw(
    seed: int, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "MOST_BLOCKS", 4)
    vault = Vault(tmp_path / "store", pg_bin=cluster.programs)
    history = History(seed, cluster, Engine(vault), copies=seed % 6 == 0)
    assert history.play(3) == 3


SNAPSHOTS = 1000
MUTANTS = {
    "the file of a table is not looked at": without(node=0),
    "columns and types are not looked at": without(fingerprint=b""),
    "what the catalogue names is skipped": skipping_names,
    "tables are not locked": unlocked,
    "another database's ages are believed": any_database,
    "rows are not counted": uncounted,
    "two transactions are overlooked": overlooking,
}


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(4))
def test_a_thousand_snapshots_restore_to_what_they_saw(
    part: int, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "MOST_BLOCKS", 4)
    compared, seed = 0, 10_000 * (part + 1)
    while compared < SNAPSHOTS // 4:
        vault = Vault(tmp_path / f"store{seed}", pg_bin=cluster.programs)
        compared += History(seed, cluster, Engine(vault), copies=True).play(6)
        shutil.rmtree(vault.root)
        seed += 1


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", MUTANTS)
def test_histories_catch_the_engine_without_a_guard(
    name: str, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "MOST_BLOCKS", 4)
    MUTANTS[name](monkeypatch)
    with pytest.raises((WrongSnapshotError, KpaxError)):
        _play(range(100), cluster, tmp_path)


def _play(seeds: range, cluster: Cluster, place: Path) -> None:
    for seed in seeds:
        vault = Vault(place / f"store{seed}", pg_bin=cluster.programs)
        History(seed, cluster, Engine(vault)).play(5)
