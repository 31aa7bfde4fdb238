"""Roles that a database's owners and privileges name: made where the server has none of the name.

They are made without the right to log in, and without a password: who may come in is decided
elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spaces.errors import InvalidError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backups.database.sessions import Session


def ensure(session: Session, names: Sequence[str]) -> list[str]:
    """Make the missing ones; answers which. Raises `RefusedError` where that is not allowed."""
    known = {name for (name,) in session.rows("SELECT rolname FROM pg_catalog.pg_roles")}
    missing = [name for name in names if name not in known and not name.startswith("pg_")]
    for name in missing:
        (quoted,) = session.one("SELECT quote_ident(%s)", (name,))
        try:
            session.rows(f"CREATE ROLE {quoted} NOLOGIN")
        except (RefusedError, InvalidError) as error:
            raise RefusedError(
                f"the server has no role {name}, and this one may not make it",
                remedy=f"Make the roles {', '.join(missing)} first.",
            ) from error
    return missing
