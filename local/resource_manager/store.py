"""What exists, and what is being done: resources and operations in one SQLite file.

Every change is committed before anybody is told of it, so that a killed Resource Manager goes on
where it was. Write-only values (passwords) lie in a column of their own and are never answered.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from local.resource_manager.ids import ResourceId, parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_SCHEMA = """
create table if not exists resources (
    key text primary key, id text not null, type text not null, state text not null,
    body text not null, hidden text not null, stack text, declared text, power text
) without rowid;
create index if not exists resources_by_type on resources (type);
create index if not exists resources_by_stack on resources (stack);
create table if not exists operations (
    id text primary key, kind text not null, target text not null, status text not null,
    inputs text, error text, started_at text not null, ended_at text, result text
) without rowid;
create index if not exists operations_running on operations (status) where status = 'Running';
create table if not exists soft_deleted (
    type text not null, name text not null, body text not null, primary key (type, name)
) without rowid;
create table if not exists kept (
    kind text not null, name text not null, body text not null, primary key (kind, name)
) without rowid;
"""

# What files of earlier versions lack.
_LATER = {"resources": ("declared", "power"), "operations": ("result",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One resource as it is kept. `body` is what a GET shows besides id, name and type."""

    id: ResourceId
    body: dict[str, Any]
    state: str = "Succeeded"
    hidden: dict[str, Any] = field(default_factory=dict, repr=False)
    stack: str | None = None
    declared: dict[str, Any] | None = None
    """The body as it was asked for, without what was computed; None where nothing is computed."""
    power: str | None = None
    """`stopped` or `deallocated` by an action, which outlasts every PUT; None: it runs."""

    @property
    def key(self) -> str:
        """The id without case."""
        return self.id.key

    @property
    def type(self) -> str:
        """The full type, lower case."""
        return self.id.type.lower()

    @property
    def properties(self) -> dict[str, Any]:
        """The properties of the body."""
        return self.body.get("properties") or {}

    @property
    def wanted(self) -> dict[str, Any]:
        """The body as it was asked for last, tags by whatever way they came."""
        if self.declared is None:
            return self.body
        return {**self.declared, "tags": self.body.get("tags")}

    def shown(self) -> dict[str, Any]:
        """The resource as a GET answers it."""
        said = {"id": str(self.id), "name": self.id.name, "type": self.id.type, **self.body}
        said["properties"] = {**self.properties, "provisioningState": self.state}
        return said


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One long-running operation. `inputs` are gone when it has ended: they may hold secrets."""

    id: str
    kind: str
    target: str
    status: str
    started_at: str
    inputs: dict[str, Any] | None = field(default=None, repr=False)
    error: dict[str, Any] | None = None
    ended_at: str | None = None
    result: dict[str, Any] | None = field(default=None, repr=False)


class Store:
    """The SQLite file. One process uses it; a second one is refused by the port it needs."""

    def __init__(self, path: Path) -> None:
        self._one_at_a_time = threading.Lock()
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        path.chmod(0o600)
        # NORMAL in WAL mode survives kill -9; only a power cut may take the last commits.
        # secure_delete: a password that was let go of is overwritten, not left in a free page.
        self._db.executescript(
            "pragma journal_mode=wal; pragma synchronous=normal; pragma secure_delete=on;"
            + _SCHEMA
        )
        for table, columns in _LATER.items():
            known = {row[1] for row in self._db.execute(f"pragma table_info({table})")}
            for column in columns:
                if column not in known:
                    self._db.execute(f"alter table {table} add column {column} text")

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def get(self, resource_id: ResourceId | str) -> Record | None:
        """The resource of this id, in any case of letters."""
        key = resource_id.key if isinstance(resource_id, ResourceId) else resource_id.lower()
        return next(self._records("where key = ?", key), None)

    def put(self, record: Record) -> Record:
        """Keep a resource as it is now."""
        self._run(
            "insert into resources (key, id, type, state, body, hidden, stack, declared, power) "
            "values (?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict (key) do update "
            "set id = excluded.id, state = excluded.state, body = excluded.body, "
            "hidden = excluded.hidden, stack = excluded.stack, declared = excluded.declared, "
            "power = excluded.power",
            (
                record.key,
                str(record.id),
                record.type,
                record.state,
                json.dumps(record.body),
                json.dumps(record.hidden),
                record.stack,
                _json(record.declared),
                record.power,
            ),
        )
        return record

    def update(self, resource_id: ResourceId, **changes: Any) -> Record | None:  # noqa: ANN401 — fields of Record
        """Change fields of a resource that may be gone by now."""
        found = self.get(resource_id)
        return None if found is None else self.put(replace(found, **changes))

    def delete(self, resource_id: ResourceId) -> None:
        """Forget a resource; an unknown one is no error."""
        self._run("delete from resources where key = ?", (resource_id.key,))

    def below(self, resource_id: ResourceId) -> list[Record]:
        """Everything under an id: children, extensions, what a group holds."""
        prefix = resource_id.key + "/"
        return list(self._records("where key >= ? and key < ?", prefix, prefix[:-1] + "0"))

    def of_type(self, *types: str) -> list[Record]:
        """All resources of these types, by key."""
        marks = ",".join("?" * len(types))
        return list(
            self._records(f"where type in ({marks}) order by key", *(t.lower() for t in types))
        )

    def of_stack(self, key: str) -> list[Record]:
        """What a deployment stack manages."""
        return list(self._records("where stack = ? order by key", key))

    def all(self) -> list[Record]:
        """All resources, by key."""
        return list(self._records("order by key"))

    def save(self, operation: Operation) -> Operation:
        """Keep an operation as it is now."""
        self._run(
            "insert or replace into operations values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                operation.id,
                operation.kind,
                operation.target,
                operation.status,
                _json(operation.inputs),
                _json(operation.error),
                operation.started_at,
                operation.ended_at,
                _json(operation.result),
            ),
        )
        return operation

    def operation(self, operation_id: str) -> Operation | None:
        """One operation."""
        return next(iter(self._operations("where id = ?", operation_id)), None)

    def running(self, target: str | None = None) -> list[Operation]:
        """Operations that have not ended; of one target (lower case), or all."""
        if target is None:
            return self._operations("where status = 'Running' order by started_at")
        return self._operations("where status = 'Running' and target = ?", target)

    def drop_ended(self, before: str) -> None:
        """Forget operations that ended before a time; clients have long stopped asking."""
        self._run("delete from operations where ended_at < ?", (before,))

    def bury(self, kind: str, name: str, body: dict[str, Any]) -> None:
        """Keep a name taken by what was softly deleted."""
        self._run(
            "insert or replace into soft_deleted values (?, ?, ?)",
            (kind.lower(), name.lower(), json.dumps(body)),
        )

    def buried(self, kind: str) -> dict[str, dict[str, Any]]:
        """Softly deleted things of a type, by name."""
        rows, _ = self._run(
            "select name, body from soft_deleted where type = ?", (kind.lower(),)
        )
        return {name: json.loads(body) for name, body in rows}

    def purge(self, kind: str, name: str) -> bool:
        """Free the name of something softly deleted; whether there was one."""
        _, gone = self._run(
            "delete from soft_deleted where type = ? and name = ?", (kind.lower(), name.lower())
        )
        return gone > 0

    def keep(self, kind: str, name: str, body: dict[str, Any]) -> None:
        """Remember a fact of the subscription that is no resource, by its kind and name."""
        self._run(
            "insert or replace into kept values (?, ?, ?)",
            (kind, name.lower(), json.dumps(body)),
        )

    def kept(self, kind: str) -> dict[str, dict[str, Any]]:
        """All facts of a kind, by lower-case name."""
        rows, _ = self._run("select name, body from kept where kind = ?", (kind,))
        return {name: json.loads(body) for name, body in rows}

    def drop(self, kind: str, name: str) -> None:
        """Forget a fact; an unknown one is no error."""
        self._run("delete from kept where kind = ? and name = ?", (kind, name.lower()))

    def _run(self, statement: str, values: Sequence[object] = ()) -> tuple[list[Any], int]:
        """Rows of one statement, and how many it changed; templates are read in other threads."""
        with self._one_at_a_time:
            done = self._db.execute(statement, values)
            return done.fetchall(), done.rowcount

    def _records(self, where: str, *values: str) -> Iterator[Record]:
        rows, _ = self._run(
            f"select id, state, body, hidden, stack, declared, power from resources {where}",  # noqa: S608 — clauses of this file
            values,
        )
        return iter(
            [
                Record(
                    id=parse(found),
                    state=state,
                    body=json.loads(body),
                    hidden=json.loads(hidden),
                    stack=stack,
                    declared=None if declared is None else json.loads(declared),
                    power=power,
                )
                for found, state, body, hidden, stack, declared, power in rows
            ]
        )

    def _operations(self, where: str, *values: str) -> list[Operation]:
        rows, _ = self._run(
            "select id, kind, target, status, inputs, error, started_at, ended_at, result "  # noqa: S608 — clauses of this file
            f"from operations {where}",
            values,
        )
        return [
            Operation(
                id=i,
                kind=kind,
                target=target,
                status=status,
                inputs=None if inputs is None else json.loads(inputs),
                error=None if error is None else json.loads(error),
                started_at=started,
                ended_at=ended,
                result=None if result is None else json.loads(result),
            )
            for i, kind, target, status, inputs, error, started, ended, result in rows
        ]


def _json(value: dict[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value)
