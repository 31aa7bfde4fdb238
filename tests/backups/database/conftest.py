"""One server for each test worker; databases, and a place for snapshots, for each test."""

from __future__ import annotations

import tempfile
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backups.database import segments
from local.home import Home
from tests.backups.database.stories import Story
from tests.backups.histories.cluster import Cluster
from tests.backups.histories.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY = Path("/dev/shm")  # noqa: S108 - private folders are made in it
_number = count()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    # A busy disk would be what is measured.
    place = MEMORY if MEMORY.is_dir() else tmp_path_factory.getbasetemp()
    with tempfile.TemporaryDirectory(dir=place) as folder:
        cluster = Cluster(Home.open(Path(folder) / "home"), "main").initialised().start()
        try:
            yield cluster
        finally:
            cluster.stop()


@pytest.fixture
def vault(tmp_path: Path, cluster: Cluster) -> Vault:
    return Vault(tmp_path / "store", pg_bin=cluster.programs)


@pytest.fixture
def database(cluster: Cluster) -> Iterator[str]:
    """The name of a database of the test's own."""
    name = f"source{next(_number)}"
    cluster.create(name)
    yield name
    cluster.drop(name)


@pytest.fixture
def target(cluster: Cluster) -> Iterator[str]:
    """The name of an empty database to restore into."""
    name = f"target{next(_number)}"
    cluster.create(name)
    yield name
    cluster.drop(name)


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of four blocks, so that small tables have many."""
    monkeypatch.setattr(segments, "MOST_BLOCKS", 4)


@pytest.fixture
def story(cluster: Cluster, vault: Vault, database: str) -> Story:
    return Story(cluster, vault, database)
