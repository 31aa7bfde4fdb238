"""What the tests of traps share: a database that changes between captures, and mutants.

A `mutant` is the engine without one guard: the test that holds the guard must see it fail, so that
a guard cannot go missing unseen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.backups.histories.compare import contents

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.backups.histories.cluster import Cluster
    from tests.backups.histories.vault import Vault

TICK = "SELECT pg_current_xact_id()"  # one transaction more
# Half of each block stays free, so that a changed row stays in its block.
FILL = (
    "CREATE TABLE t WITH (fillfactor = 50) AS SELECT g AS id, md5(g::text) AS v, 0 AS n, -1 AS m"
    " FROM generate_series(1, 5000) g"
)
type Mutant = Callable[[pytest.MonkeyPatch], None]


class Story:
    """A database that changes between captures, and what its snapshots restore to."""

    def __init__(self, cluster: Cluster, vault: Vault, database: str) -> None:
        self.cluster = cluster
        self.vault = vault
        self.database = database

    @property
    def dsn(self) -> str:
        return self.cluster.dsn(self.database)

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        return self.cluster.sql(self.database, *statements)

    def capture(self, **more: Any) -> Any:
        return self.vault.capture(self.dsn, **more)

    def differs(self, expected: Any = None) -> bool:
        """Whether the newest snapshot restores to other rows than the database's, or those given."""
        name = f"{self.database}_back"
        self.cluster.drop(name)
        try:
            self.cluster.create(name)
            self.vault.restore(self.cluster.dsn(name))
            found = contents(self.cluster.dsn(name))
            return found.sorted() != (expected or contents(self.dsn)).sorted()
        finally:
            self.cluster.drop(name)


def with_and_without(
    monkeypatch: pytest.MonkeyPatch, mutant: Mutant, told: Callable[[], bool]
) -> None:
    """The story ends well, and without the guard it does not."""
    assert not told(), "wrong rows with the guard in place"
    with monkeypatch.context() as patch:
        mutant(patch)
        assert told(), "the mutant was not noticed"
