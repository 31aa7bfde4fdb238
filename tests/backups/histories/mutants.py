"""The engine without one of its guards: what histories must catch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from backups.database import continuity, plan, snapshot, visibility

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


def without(**pretended: Any) -> Callable[[pytest.MonkeyPatch], None]:
    """A table is believed to have the properties it had before."""

    def mutant(patch: pytest.MonkeyPatch) -> None:
        real = plan.Past.trusts

        def careless(self: Any, relation: Any, table: Any) -> bool:
            if table is None:
                return False
            same = {name: getattr(table, name) for name in pretended}
            return real(self, replace(relation, **same), table)

        patch.setattr(plan.Past, "trusts", careless)

    return mutant


def skipping_names(patch: pytest.MonkeyPatch) -> None:
    """Columns whose text the catalogue decides are skipped like others."""
    real = plan.Past.trusts

    def careless(self: Any, relation: Any, table: Any) -> bool:
        if table is None:
            return False
        believed = msgspec.structs.replace(table, skips=True)
        return real(self, replace(relation, skips=True), believed)

    patch.setattr(plan.Past, "trusts", careless)


def unlocked(patch: pytest.MonkeyPatch) -> None:
    """Tables are not locked."""
    patch.setattr(snapshot.OpenSnapshot, "_lock_statement", lambda *_: "SELECT")


def any_database(patch: pytest.MonkeyPatch) -> None:
    """A copy of a database is taken for the database."""
    real = continuity.continues

    def careless(now: Any, held: frozenset[str], before: Any) -> bool:
        same = msgspec.structs.replace(now, database=before.database)
        return real(same, held | {before.nonce}, before)

    patch.setattr(continuity, "continues", careless)


def uncounted(patch: pytest.MonkeyPatch) -> None:
    """Rows that are gone are not noticed."""
    real = visibility.spans

    def careless(session: Any, source: str, asked: Any) -> Any:
        told = real(session, source, asked)
        return [(span, seen._replace(rows=span.earlier.rows)) for span, seen in told]

    patch.setattr(visibility, "spans", careless)


def overlooking(patch: pytest.MonkeyPatch) -> None:
    """The threshold is off by two transactions."""
    patch.setattr(
        visibility, "newer", lambda xmin: f"age(xmin) <= age({visibility.xid(xmin)}) - 2"
    )
