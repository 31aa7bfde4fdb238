"""Which rows are newer than a snapshot, counted by the server: what need not be read again.

A row that is visible now and whose inserting transaction had ended before the earlier snapshot was
visible there too, in the same place. So where no row is newer and the count is the same, the rows
are the same. Both ages are taken in one statement: `age()` counts from a point that each
transaction fixes for itself, and a threshold carried from one connection to another is off by
whatever was committed between. Source: backups.md 5.3, measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from backups.database.segments import Span
    from backups.database.sessions import Session

_TABLES_AT_ONCE = 100
_SPANS_AT_ONCE = 500


class Seen(NamedTuple):
    """Rows that are visible, and how many of them are newer than the earlier snapshot."""

    rows: int
    newer: int


def newer(xmin: int | str) -> str:
    """The condition of a row that is newer than the snapshot with this oldest transaction."""
    return f"age(xmin) <= age({xid(xmin)})"


def xid(xmin: int | str) -> str:
    """A transaction id of 64 bits as SQL writes it in 32."""
    return f"'{xmin & 0xFFFFFFFF}'::xid" if isinstance(xmin, int) else xmin


def tables(session: Session, asked: Mapping[str, int | None]) -> dict[str, Seen]:
    """Count whole tables: what follows FROM in a query, and the earlier snapshot's oldest xid."""
    found: dict[str, Seen] = {}
    sources = list(asked.items())
    for at in range(0, len(sources), _TABLES_AT_ONCE):
        told = " UNION ALL ".join(
            f"SELECT {number}, count(*), "  # noqa: S608 - names that the server quoted
            f"{'0' if since is None else f'count(*) FILTER (WHERE {newer(since)})'} FROM {source}"
            for number, (source, since) in enumerate(sources[at : at + _TABLES_AT_ONCE], at)
        )
        for number, rows, recent in session.rows(told):
            found[sources[number][0]] = Seen(rows, recent)
    return found


def spans(
    session: Session, source: str, asked: Sequence[tuple[Span, int]]
) -> list[tuple[Span, Seen]]:
    """Count ranges of blocks of one table, each against its own earlier snapshot."""
    found: list[tuple[Span, Seen]] = []
    for at in range(0, len(asked), _SPANS_AT_ONCE):
        some = asked[at : at + _SPANS_AT_ONCE]
        values = ", ".join(
            _value(number, span, xmin) for number, (span, xmin) in enumerate(some)
        )
        told = session.rows(
            "SET LOCAL enable_seqscan = off;"  # noqa: S608 - names that the server quoted
            " SELECT s.i, x.n, x.r"
            f" FROM (VALUES {values}) AS s(i, a, b, x), LATERAL"
            f" (SELECT count(*) AS n, count(*) FILTER (WHERE {newer('s.x')}) AS r"
            f" FROM {source} WHERE ctid >= s.a AND ctid < s.b) AS x"
        )
        found += [(some[number][0], Seen(rows, recent)) for number, rows, recent in told]
    return found


def _value(number: int, span: Span, xmin: int) -> str:
    return f"({number}, '({span.start},0)'::tid, '({span.end},0)'::tid, {xid(xmin)})"


# --- the system catalogues: is a definition newer? ---------------------------------------------

_CATALOGUES = """
SELECT format('%I.%I', n.nspname, c.relname)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'pg_catalog' AND c.relkind = 'r' AND has_table_privilege(c.oid, 'select')
    AND c.relname NOT IN ('pg_statistic', 'pg_statistic_ext_data', 'pg_largeobject', 'pg_authid',
        'pg_database', 'pg_db_role_setting', 'pg_shdepend', 'pg_auth_members',
        'pg_replication_origin', 'pg_subscription_rel')
ORDER BY c.oid
"""
_ROLE_NAMES = "SELECT md5(string_agg(oid || ' ' || rolname, ',' ORDER BY oid)) FROM pg_roles"


def catalogues(session: Session, since: int | None) -> tuple[str, bool]:
    """How many rows each catalogue has, as text, and whether any row is newer than `since`."""
    names: Iterable[str] = [f"{name}" for (name,) in session.rows(_CATALOGUES)]
    seen = tables(session, dict.fromkeys(names, since))
    told = ",".join(f"{name} {seen[name].rows}" for name in names)
    roles = str(session.one(_ROLE_NAMES)[0])
    return f"{told} {roles}", since is None or any(one.newer for one in seen.values())
