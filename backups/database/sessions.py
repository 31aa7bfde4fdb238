"""A session with PostgreSQL: connected, pinned, and with its errors told in our words.

psycopg2, because its COPY is three times as fast as any other's. Settings that change how a value
is written, or which rows a role sees, are pinned as pg_dump pins them: a role under row-level
security silently gets half the rows otherwise; with `row_security = off` it gets an error.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Protocol

from spaces.errors import (
    InvalidError,
    KpaxError,
    RefusedError,
    TransientError,
    UnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

CONNECT_S = 15
LOCK_S = 30

PINNED = {
    "search_path": "",
    "row_security": "off",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "xmloption": "content",
    "quote_all_identifiers": "off",
    "standard_conforming_strings": "on",
    "array_nulls": "on",
}
"""What the text of a value depends on; a restore sets the same."""

_QUIET = {
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
    "lock_timeout": f"{LOCK_S}s",
    "synchronize_seqscans": "off",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    "client_min_messages": "warning",
    "check_function_bodies": "off",
}


class Sink(Protocol):
    """What takes the rows of a COPY: one call per row."""

    def write(self, data: bytes, /) -> object:
        """Take a row."""
        ...


class Source(Protocol):
    """What gives bytes to a COPY."""

    def read(self, size: int, /) -> bytes:
        """Some bytes, any number of them; none at the end."""
        ...


class Session:
    """One connection, in autocommit: transactions are begun by name."""

    def __init__(self, dsn: str, *, settings: Mapping[str, str] | None = None) -> None:
        """Connect and pin. Raises `UnreachableError` where there is no such database."""
        self._connection = _connect(dsn)
        with self._told():
            self._pin({**PINNED, **_QUIET, **(settings or {})})

    @property
    def version(self) -> int:
        """As 180003."""
        return int(self._connection.server_version)

    @property
    def encoding(self) -> str:
        """The database's encoding; COPY text is in it."""
        return str(self._connection.info.parameter_status("server_encoding"))

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """All rows of a statement; of the last one where there are several."""
        with self._told(), self._connection.cursor() as cursor:
            cursor.execute(sql, values or None)
            return list(cursor.fetchall()) if cursor.description else []

    def one(self, sql: str, values: Sequence[object] = ()) -> tuple[Any, ...]:
        """The only row of a statement."""
        (row,) = self.rows(sql, values)
        return row

    def copy_out(self, sql: str, sink: Sink) -> int:
        """Give each row of a COPY TO to `sink`; answers how many there were."""
        with self._told(), self._connection.cursor() as cursor:
            cursor.copy_expert(sql, sink)
            return int(cursor.rowcount)

    def copy_in(self, sql: str, source: Source) -> int:
        """Feed a COPY FROM; answers how many rows there were."""
        watched = _Watched(source)
        try:
            with self._told(), self._connection.cursor() as cursor:
                cursor.copy_expert(sql, watched, 1 << 18)
                return int(cursor.rowcount)
        except KpaxError as error:
            if watched.error is None:
                raise
            # The server only says that we gave up; why, the source has said.
            raise watched.error from error

    def cancel(self) -> None:
        """End what another thread runs in this session; it raises there."""
        with contextlib.suppress(Exception):
            self._connection.cancel()

    def close(self) -> None:
        """Close; an open transaction is rolled back by the server."""
        with contextlib.suppress(Exception):
            self._connection.close()

    def _pin(self, settings: Mapping[str, str]) -> None:
        # SQL_ASCII is no encoding: bytes go to and fro unchanged, and LATIN1 keeps each of them.
        encoding = "LATIN1" if self.encoding == "SQL_ASCII" else "UTF8"
        self._connection.set_client_encoding(encoding)
        told = ", ".join(["(%s, %s)"] * len(settings))
        values = [part for pair in settings.items() for part in pair]
        with self._connection.cursor() as cursor:
            # A server knows not all of them: only those it has are set.
            cursor.execute(
                "SELECT set_config(v.name, v.value, false)"  # noqa: S608 - placeholders
                f" FROM (VALUES {told}) AS v(name, value)"
                " JOIN pg_catalog.pg_settings AS s ON s.name = v.name",
                values,
            )

    @contextlib.contextmanager
    def _told(self) -> Generator[None]:
        """Raise our errors. A statement's own text, and rows, are kept out of them."""
        import psycopg2  # noqa: PLC0415 - loaded when a database is touched, not before
        from psycopg2 import errors  # noqa: PLC0415

        try:
            yield
        except (psycopg2.InterfaceError, psycopg2.OperationalError) as error:
            if isinstance(error, errors.LockNotAvailable | errors.DeadlockDetected):
                raise LockedError(f"a lock was not given: {_first(error)}") from error
            raise TransientError(f"the database went away: {_first(error)}") from error
        except (errors.UndefinedTable, errors.WrongObjectType) as error:
            raise MovedError(f"a table is gone: {_first(error)}") from error
        except errors.InsufficientPrivilege as error:
            raise RefusedError(
                f"the database refuses: {_first(error)}",
                remedy="The role must read everything: give it pg_read_all_data and BYPASSRLS.",
            ) from error
        except psycopg2.Error as error:
            if error.pgcode is None or self._connection.closed:
                # The server said nothing: a COPY that is cut off ends in a plain DatabaseError.
                raise TransientError(f"the database went away: {_first(error)}") from error
            raise InvalidError(f"the database says: {_first(error)}") from error


class MovedError(TransientError):
    """What was listed a moment ago is no longer there: look again."""


class LockedError(TransientError):
    """Another session holds, or waits for, a lock that excludes us."""


class _Watched:
    """A source that keeps the error it raised: psycopg2 makes it one of the server's."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.error: Exception | None = None

    def read(self, size: int) -> bytes:
        try:
            return self._source.read(size)
        except Exception as error:
            self.error = error
            raise


def _connect(dsn: str) -> Any:  # noqa: ANN401 - psycopg2 has no types
    import psycopg2  # noqa: PLC0415 - loaded when a database is touched, not before

    try:
        connection = psycopg2.connect(
            dsn,
            connect_timeout=CONNECT_S,
            fallback_application_name="kpax-backup",
            keepalives_idle=30,
            keepalives_interval=10,
            keepalives_count=3,
        )
    except psycopg2.ProgrammingError as error:
        raise InvalidError(f"the database's address is malformed: {_first(error)}") from error
    except psycopg2.Error as error:
        raise UnreachableError(
            f"the database cannot be reached: {_first(error)}", remedy="Is it started?"
        ) from error
    connection.autocommit = True
    return connection


def _first(error: Exception) -> str:
    """The first line: later ones quote rows."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
