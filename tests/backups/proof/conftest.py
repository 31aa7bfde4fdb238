"""One server for each worker, in memory; a place of its own for each test."""

from __future__ import annotations

import tempfile
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from local.home import Home
from tests.backups.histories.cluster import Cluster
from tests.backups.proof.place import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MEMORY = Path("/dev/shm")  # noqa: S108 - private folders are made in it
_number = count()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    place = MEMORY if MEMORY.is_dir() else tmp_path_factory.getbasetemp()
    with tempfile.TemporaryDirectory(dir=place, ignore_cleanup_errors=True) as folder:
        cluster = Cluster(Home.open(Path(folder) / "home"), "main").initialised().start()
        try:
            yield cluster
        finally:
            cluster.stop()


@pytest.fixture(scope="module")
def new_place(cluster: Cluster) -> Iterator[Callable[[], Place]]:
    """Makes places that last as long as the module."""
    made: list[Place] = []
    home = MEMORY if MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(dir=home, ignore_cleanup_errors=True) as folder:

        def make() -> Place:
            name = f"proof{next(_number)}"
            root = Path(folder) / name
            root.mkdir()
            cluster.create(name)
            made.append(Place(root, cluster, name))
            return made[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("KPAX_PG_BIN", str(cluster.programs))
            yield make
        for place in made:
            cluster.drop(place.database)


@pytest.fixture
def place(new_place: Callable[[], Place]) -> Place:
    """One that nobody has used."""
    return new_place()
