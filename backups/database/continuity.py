"""Is this the same database as last time, a little later? Only then may unchanged rows be skipped.

A cold copy of a data folder has the same identifiers, file nodes and transaction ids as its
source. So each run writes a random nonce into the database after its snapshot is taken, and a
later run skips rows only where it finds the nonce of the snapshot it builds on: then whatever it
sees grew out of that state. The nonce is written durably, and with it all that came before it, so
that a crash cannot give transaction ids out again. Where the role may not write, the server
process must be the same one. Sources: backups.md, amendments 1 and 2, both measured.
"""

from __future__ import annotations

import secrets
import time
from contextlib import closing, suppress

from backups.database.catalog import OWN_SCHEMA
from backups.database.model import Snapshot
from backups.database.sessions import Session
from spaces.errors import InvalidError, KpaxError, RefusedError

SAFE_TRANSACTIONS = 1 << 30
_KEPT = (
    16  # runs that ended before their manifest must not push out the nonce of the last good one
)
_FLUSH_S = 3.0

_PREPARE = f"""
CREATE SCHEMA IF NOT EXISTS {OWN_SCHEMA};
CREATE TABLE IF NOT EXISTS {OWN_SCHEMA}.continuity (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    nonces text[] NOT NULL,
    written_at timestamptz NOT NULL);
COMMENT ON SCHEMA {OWN_SCHEMA} IS
    'Written by backups: tells this database from a copy of it. Not part of a backup.';
"""
_WRITE = f"""
SET synchronous_commit = on;
INSERT INTO {OWN_SCHEMA}.continuity AS c VALUES (true, ARRAY[%s], now())
ON CONFLICT (one) DO UPDATE SET nonces = (EXCLUDED.nonces || c.nonces)[1:{_KEPT}],
    written_at = EXCLUDED.written_at
"""  # noqa: S608 - a constant of ours
_LOOK = f"""
SELECT pg_snapshot_xmin(pg_current_snapshot())::text,
    (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()),
    current_setting('server_version_num') || ' ' || coalesce(current_setting('server_version'), ''),
    pg_postmaster_start_time()::text,
    pg_is_in_recovery(),
    CASE WHEN pg_is_in_recovery() THEN ''
        ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END,
    has_function_privilege('pg_catalog.pg_control_system()', 'execute'),
    coalesce(has_table_privilege(to_regclass('{OWN_SCHEMA}.continuity'), 'select'), false)
"""  # noqa: S608 - a constant of ours


def prepare(session: Session) -> bool:
    """Make the place of the nonce, before the snapshot; False where the role may not."""
    try:
        recovers, is_absent = session.one(
            f"SELECT pg_is_in_recovery(), to_regclass('{OWN_SCHEMA}.continuity') IS NULL"
        )
        if recovers:
            return False
        if is_absent:
            # Another run may be at it: then there is nothing left to make.
            with suppress(InvalidError):
                session.rows(_PREPARE)
        return bool(
            session.one(
                f"SELECT has_table_privilege(to_regclass('{OWN_SCHEMA}.continuity'),"
                " 'insert, update') AND current_setting('transaction_read_only') = 'off'"
            )[0]
        )
    except (InvalidError, RefusedError):
        return False


def look(session: Session) -> tuple[Snapshot, frozenset[str]]:
    """This snapshot's identity, and the nonces that the database holds in it."""
    xmin, database, server, started, recovers, timeline, may_ask, may_read = session.one(_LOOK)
    system = (
        str(session.one("SELECT system_identifier FROM pg_control_system()")[0])
        if may_ask
        else ""
    )
    held: frozenset[str] = frozenset()
    if may_read:
        held = frozenset(
            nonce
            for (nonces,) in session.rows(f"SELECT nonces FROM {OWN_SCHEMA}.continuity")  # noqa: S608 - a constant of ours
            for nonce in nonces
        )
    snapshot = Snapshot(
        xmin=int(xmin),
        system=system,
        timeline=timeline,
        database=database,
        server=server,
        nonce="",
        started="" if recovers else started,
    )
    return snapshot, held


def continues(now: Snapshot, held: frozenset[str], before: Snapshot) -> bool:
    """Whether what `now` sees grew out of what `before` saw, and transaction ids compare."""
    if (now.system, now.timeline, now.database, now.server) != (
        before.system,
        before.timeline,
        before.database,
        before.server,
    ):
        return False
    if not now.timeline or not 0 <= now.xmin - before.xmin < SAFE_TRANSACTIONS:
        return False
    if before.nonce:
        return before.nonce in held
    return bool(before.started) and before.started == now.started


def mark(dsn: str) -> str:
    """Write a new nonce, durably; the snapshot must be open. Empty where that is not possible."""
    nonce = secrets.token_hex(16)
    try:
        with closing(Session(dsn, settings={"lock_timeout": "5s"})) as session:
            session.rows(_WRITE, (nonce,))
    except KpaxError:
        return ""
    return nonce


def is_durable(session: Session, position: str) -> bool:
    """Whether the server's log is on disk up to a position; waits a little for its writer.

    Without a nonce nothing forces the log out, and a crash of a backend's would take back what
    the snapshot saw while the server process stays the same.
    """
    until = time.monotonic() + _FLUSH_S
    while True:
        if session.one("SELECT pg_current_wal_flush_lsn() >= %s::pg_lsn", (position,))[0]:
            return True
        if time.monotonic() > until:
            return False
        session.rows("SELECT pg_sleep(0.05)")


def position(session: Session) -> str:
    """Where the server's log stands now."""
    return str(session.one("SELECT pg_current_wal_insert_lsn()")[0])
