"""Table Storage in memory: ETags, transactions that apply whole or not at all, the same limits."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from spaces.errors import ConflictError, InvalidError, LostRaceError
from spaces.ports import Delete, Insert, Put, Replace, Scalar, Stored, Write, check_writes
from tests.fakes.faults import Faults

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The rows of a table: by partition, then by key.
type _Rows = dict[str, dict[str, Stored]]

_KEY_FORBIDDEN = re.compile(r"[/\\#?\x00-\x1f\x7f-\x9f]")
_TABLE = re.compile(r"[A-Za-z][A-Za-z0-9]{2,62}")
_PROPERTY = re.compile(r"[^\W\d]\w{0,254}")


class FakeTables:
    def __init__(self) -> None:
        self.faults = Faults()
        self._tables: dict[str, _Rows] = {}
        self._version = 0

    async def get(self, table: str, partition: str, key: str) -> Stored | None:
        self.faults.before("get")
        found = self._rows(table).get(partition, {}).get(key)
        self.faults.after("get")
        return found

    async def query(
        self,
        table: str,
        *,
        partition: str | None = None,
        key_from: str | None = None,
        key_below: str | None = None,
        limit: int | None = None,
    ) -> list[Stored]:
        self.faults.before("query")
        rows = self._rows(table)
        found = [
            rows[of][key]
            for of in (sorted(rows) if partition is None else [partition])
            for key in sorted(rows.get(of, {}))
            if (key_from is None or key >= key_from) and (key_below is None or key < key_below)
        ]
        self.faults.after("query")
        return found if limit is None else found[: max(limit, 0)]

    async def commit(self, table: str, partition: str, writes: Sequence[Write]) -> None:
        check_writes(writes)
        self.faults.before("commit")
        rows = dict(self._rows(table).get(partition, {}))
        size = 0
        for write in writes:
            _check_key(partition)
            _check_key(write.key)
            self._guard(write, rows.get(write.key), f"table {table}, partition {partition}")
            if isinstance(write, Delete):
                rows.pop(write.key, None)
                continue
            values, weight = _checked(write.values)
            size += weight
            self._version += 1
            rows[write.key] = Stored(
                partition=partition,
                key=write.key,
                etag=f'W/"{self._version}"',
                values=values,
            )
        if size > 4 * 2**20:
            raise InvalidError("the transaction is larger than 4 MiB")
        self._rows(table)[partition] = rows
        self.faults.after("commit")

    def rows(self, table: str) -> list[Stored]:
        """All rows of a table as they are, for a test to look at."""
        rows = self._rows(table)
        return [rows[of][key] for of in sorted(rows) for key in sorted(rows[of])]

    def row(self, table: str, partition: str, key: str) -> Stored | None:
        """One row as it is."""
        return self._rows(table).get(partition, {}).get(key)

    def in_partition(self, table: str, partition: str) -> list[Stored]:
        """The rows of one partition as they are."""
        rows = self._rows(table).get(partition, {})
        return [rows[key] for key in sorted(rows)]

    def forget(self, table: str, partition: str, key: str) -> None:
        """Take a row away behind everybody's back."""
        del self._rows(table)[partition][key]

    def _rows(self, table: str) -> _Rows:
        if not _TABLE.fullmatch(table):
            raise ValueError(f"{table!r} is no table name")
        return self._tables.setdefault(table, {})

    @staticmethod
    def _guard(write: Write, there: Stored | None, where: str) -> None:
        match write:
            case Insert(key):
                if there is not None:
                    raise ConflictError(f"row {key} is there already", where=where)
            case Replace(key, _, etag):
                if there is None or there.etag != etag:
                    raise LostRaceError(f"row {key} is another version", where=where)
            case Delete(key, etag) if etag is not None:
                if there is None or there.etag != etag:
                    raise LostRaceError(f"row {key} is another version", where=where)
            case Put() | Delete():
                pass


def _check_key(key: str) -> None:
    if _KEY_FORBIDDEN.search(key) or len(key.encode("utf-16-le")) > 1024:
        raise InvalidError(f"{key[:80]!r} is no key of a row")


def _checked(values: Mapping[str, Scalar]) -> tuple[dict[str, Scalar], int]:
    if len(values) > 252:
        raise InvalidError("a row has at most 252 values")
    kept = {name: _value(name, value) for name, value in values.items()}
    weight = sum(2 * len(name) + _size(value) for name, value in kept.items())
    if weight > 2**20:
        raise InvalidError("a row is larger than 1 MiB")
    return kept, weight


def _value(name: str, value: Scalar) -> Scalar:
    if not _PROPERTY.fullmatch(name) or name in {"PartitionKey", "RowKey", "Timestamp"}:
        raise InvalidError(f"{name!r} is no name of a value")
    match value:
        case bool() | bytes() | str():
            pass
        case int():
            if not -(2**63) <= value < 2**63:
                raise TypeError(f"{name} does not fit into 64 bits")
        case float():
            if not math.isfinite(value):
                raise InvalidError(f"{name} is not finite")
        case datetime():
            if value.tzinfo is None:
                raise ValueError("a stored time must be aware")
            return value.astimezone(UTC)
    if _size(value) > 64 * 2**10:
        raise InvalidError(f"{name} is larger than 64 KiB")
    return value


def _size(value: Scalar) -> int:
    match value:
        case bytes():
            return len(value)
        case str():
            return len(value.encode("utf-16-le"))
        case _:
            return 8
