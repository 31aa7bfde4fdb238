"""Table Storage by azure-data-tables.

A single write is a plain request, several are one entity group transaction. Numbers are always
stored as Int64 and Double, so that a column keeps its type when a value grows. A table is made
when a write finds it missing: that costs its first write two more requests, and no other anything.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError
from azure.data.tables import EdmType, EntityProperty, TableTransactionError, UpdateMode
from azure.data.tables.aio import TableClient, TableServiceClient

from spaces import telemetry
from spaces.adapters.wire import RAISED, classify, code_of, translated
from spaces.errors import ConflictError, KpaxError, LostRaceError, UnknownError
from spaces.ports import Delete, Insert, Put, Replace, Scalar, Stored, Write, check_writes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from azure.core.credentials_async import AsyncTokenCredential

    from spaces.adapters.wire import Wire

_PAGE = 1000
_NO_TABLE = "TableNotFound"


class AzureTables:
    """The tables of one storage account, by connection string or by account URL and identity."""

    def __init__(
        self,
        wire: Wire,
        *,
        connection: str | None = None,
        url: str | None = None,
        credential: AsyncTokenCredential | None = None,
    ) -> None:
        options: dict[str, Any] = {
            "transport": wire.transport(telemetry.TABLE_TRANSACTIONS),
            "retry_total": 0,  # the caller schedules the next attempt and counts it
        }
        if connection is not None:
            self._service = TableServiceClient.from_connection_string(connection, **options)
        else:
            self._service = TableServiceClient(str(url), credential=credential, **options)
        self._clients: dict[str, TableClient] = {}
        self._made: set[str] = set()

    async def get(self, table: str, partition: str, key: str) -> Stored | None:
        """One row, or None; see the port."""
        with translated(
            f"row {key} of table {table} cannot be read", where=f"partition {partition}"
        ):
            try:
                return _stored(await self._table(table).get_entity(partition, key))
            except HttpResponseError as error:
                if error.status_code == 404:
                    return None
                raise

    async def query(
        self,
        table: str,
        *,
        partition: str | None = None,
        key_from: str | None = None,
        key_below: str | None = None,
        limit: int | None = None,
    ) -> list[Stored]:
        """Rows in key order; see the port."""
        if limit is not None and limit <= 0:
            return []
        terms = [
            f"{name} {operator} '{value.replace("'", "''")}'"
            for name, operator, value in (
                ("PartitionKey", "eq", partition),
                ("RowKey", "ge", key_from),
                ("RowKey", "lt", key_below),
            )
            if value is not None
        ]
        page = min(limit or _PAGE, _PAGE)
        client = self._table(table)
        rows: list[Stored] = []
        with translated(
            f"table {table} cannot be read", where=f"partition {partition or 'any'}"
        ):
            try:
                found = (
                    client.query_entities(" and ".join(terms), results_per_page=page)
                    if terms
                    else client.list_entities(results_per_page=page)
                )
                async for entity in found:
                    rows.append(_stored(entity))
                    if len(rows) == limit:
                        break
            except HttpResponseError as error:
                if error.status_code != 404:
                    raise
        return rows

    async def commit(self, table: str, partition: str, writes: Sequence[Write]) -> None:
        """Apply all writes or none; see the port."""
        check_writes(writes)
        where = f"table {table}, partition {partition}"
        left = list(writes)
        may_make = True
        while left:
            try:
                await self._apply(table, partition, left)
            except RAISED as error:
                missing = _missing(error, left)
                if missing is None:
                    raise _refusal(error, left, where) from error
                if may_make and self._may_lack(table, error, missing):
                    may_make = False
                    await self._make(table)
                elif isinstance(missing, Delete) and missing.etag is None:
                    left.remove(missing)
                else:
                    raise LostRaceError(f"row {missing.key} is gone", where=where) from error
            else:
                self._made.add(table)
                return

    async def close(self) -> None:
        """Release the clients; the connections belong to the wire."""
        await self._service.close()

    def _table(self, name: str) -> TableClient:
        if name not in self._clients:
            self._clients[name] = self._service.get_table_client(name)
        return self._clients[name]

    async def _apply(self, table: str, partition: str, writes: Sequence[Write]) -> None:
        client = self._table(table)
        match writes:
            case [Insert(key, values)]:
                await client.create_entity(_entity(partition, key, values))
            case [Put(key, values)]:
                await client.upsert_entity(
                    _entity(partition, key, values), mode=UpdateMode.REPLACE
                )
            case [Replace(key, values, etag)]:
                await client.update_entity(
                    _entity(partition, key, values),
                    mode=UpdateMode.REPLACE,
                    etag=etag,
                    match_condition=MatchConditions.IfNotModified,
                )
            case [Delete(key, None)]:
                await client.delete_entity(partition, key)
            case _:  # also one guarded Delete: delete_entity would call a missing row deleted
                await client.submit_transaction([_operation(partition, w) for w in writes])

    def _may_lack(self, table: str, error: Exception, missing: Write) -> bool:
        """Whether a write that was not found may have missed its table and not its row.

        Where the answer names no code (the emulator's, inside a transaction) a new row can only
        have missed its table, and a table that this process has written to is taken to exist.
        """
        code = code_of(error) if isinstance(error, HttpResponseError) else None
        new = isinstance(missing, (Insert, Put))
        return code == _NO_TABLE or new or (code is None and table not in self._made)

    async def _make(self, table: str) -> None:
        with translated(f"table {table} cannot be made"):
            try:
                await self._service.create_table(table)
            except HttpResponseError as known:
                if known.status_code != 409 or code_of(known) == "TableBeingDeleted":
                    raise
        self._made.add(table)


def _missing(error: Exception, writes: Sequence[Write]) -> Write | None:
    """The write that did not find its row or its table; None where the error says another thing."""
    if not isinstance(error, HttpResponseError) or error.status_code != 404:
        return None
    index = error.index if isinstance(error, TableTransactionError) else 0
    return writes[index if 0 <= index < len(writes) else 0]


def _refusal(error: Exception, writes: Sequence[Write], where: str) -> KpaxError:
    what = f"{len(writes)} rows were not written"
    if isinstance(error, HttpResponseError) and error.status_code == 409:
        if code_of(error) == "TableBeingDeleted":
            return UnknownError(f"{what}: the table is being deleted", where=where)
        return ConflictError(f"{what}: a new one is there already", where=where)
    return classify(error, what, where=where, lost=UnknownError)


def _operation(partition: str, write: Write) -> Any:  # noqa: ANN401 — tuples of two shapes
    match write:
        case Insert(key, values):
            return "create", _entity(partition, key, values)
        case Put(key, values):
            return "upsert", _entity(partition, key, values), {"mode": UpdateMode.REPLACE}
        case Replace(key, values, etag):
            guard = {"etag": etag, "match_condition": MatchConditions.IfNotModified}
            return (
                "update",
                _entity(partition, key, values),
                {"mode": UpdateMode.REPLACE, **guard},
            )
        case Delete(key, None):
            return "delete", _entity(partition, key, {})
        case Delete(key, etag):
            guard = {"etag": etag, "match_condition": MatchConditions.IfNotModified}
            return "delete", _entity(partition, key, {}), guard


def _entity(partition: str, key: str, values: Mapping[str, Scalar]) -> dict[str, Any]:
    typed = {name: _typed(value) for name, value in values.items()}
    return {**typed, "PartitionKey": partition, "RowKey": key}


def _typed(value: Scalar) -> Any:  # noqa: ANN401 — what the SDK takes
    match value:
        case bool() | str() | bytes():
            return value
        case int():
            return EntityProperty(value, EdmType.INT64)
        case float():
            return EntityProperty(value, EdmType.DOUBLE)
        case datetime():
            if value.tzinfo is None:
                raise ValueError("a stored time must be aware")
            return value.astimezone(UTC)


def _stored(entity: Any) -> Stored:  # noqa: ANN401 — TableEntity
    values = {
        name: _plain(value)
        for name, value in entity.items()
        if name not in {"PartitionKey", "RowKey"}
    }
    return Stored(
        partition=entity["PartitionKey"],
        key=entity["RowKey"],
        etag=entity.metadata["etag"],
        values=values,
    )


def _plain(value: Any) -> Scalar:  # noqa: ANN401 — what the SDK gives
    if isinstance(value, EntityProperty):
        return value.value
    if isinstance(value, datetime):
        # the SDK's own subclass remembers the text it came as and would write that again
        return datetime.combine(value.date(), value.timetz())
    return value
