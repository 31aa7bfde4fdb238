"""Invents the SQL of a history. Pure: the same seed writes the same statements.

It remembers which tables and columns there are, so that each statement is one the server takes.
Every table has `id`, `n` and `v`, which stay; other columns come and go.
"""

# ruff: noqa: S608 - its statements are made of names and numbers of its own

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

TICK = "SELECT pg_current_xact_id()"


@dataclass(slots=True)
class Made:
    """A table: its name, and the columns that may go."""

    name: str
    columns: list[str] = field(default_factory=list)
    is_plain: bool = True


class Author:
    """Statements of one history."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.tables: list[Made] = []
        self.labels = ["sad", "glad"]
        self.attributes = ["a", "b"]
        self.large_objects: list[int] = []
        self._number = 0

    def beginning(self) -> list[str]:
        """The first state."""
        told = [
            "CREATE TYPE mood AS ENUM ('sad', 'glad')",
            "CREATE TYPE pair AS (a integer, b text)",
            "CREATE DOMAIN bounded AS integer CHECK (VALUE < 1000)",
            "CREATE TABLE bare ()",
            "INSERT INTO bare DEFAULT VALUES",
            "CREATE SEQUENCE counter",
            "CREATE TABLE pointers (id serial PRIMARY KEY, what regclass, whats regclass[])",
        ]
        for _ in range(3):
            told += self.new_table()
        told.append(
            f"CREATE MATERIALIZED VIEW sums AS SELECT count(*) FROM {self.tables[0].name}"
        )
        self.tables[0].is_plain = False  # a view hangs on it: it stays
        return told

    def between(self) -> list[str]:
        """What happens between two snapshots: some changes, each by itself."""
        told: list[str] = []
        for _ in range(self.random.randint(1, 4)):
            told += self.random.choice(self._changes())()
            told += [TICK] * self.random.randint(0, 3)
        return told

    def transactions(self, count: int) -> list[str]:
        """What a writer does while a snapshot is read: rows only."""
        return [one for _ in range(count) for one in self.rows()]

    def exclusive(self) -> list[str]:
        """What waits for all readers to end, and for a running backup too."""
        table = self.random.choice(self.tables).name
        return self.random.choice(
            [
                [f"TRUNCATE {table}"],
                [
                    "BEGIN",
                    f"TRUNCATE {table}",
                    f"COPY {table} (id) FROM PROGRAM 'seq 900' (FREEZE)",
                    "COMMIT",
                ],
                [f"ALTER TABLE {table} ALTER COLUMN n TYPE bigint USING n + 1"],
                [f"VACUUM FULL {table}"],
                [f"ALTER TABLE {table} ALTER COLUMN n SET DEFAULT 3"],
            ]
        )

    def _changes(self) -> list[Callable[[], list[str]]]:
        return [
            *[self.rows] * 6,
            self.new_table,
            self.dropped_table,
            self.refilled,
            self.rewritten,
            self.columns,
            self.columns,
            self.types,
            self.renamed,
            self.pointed,
            self.counted,
            self.objects,
            self.secured,
            self.exclusive,
        ]

    # -- rows --------------------------------------------------------------------------------

    def rows(self) -> list[str]:
        """One transaction of rows."""
        random = self.random
        table = random.choice(self.tables).name
        low = random.randint(0, 3000)
        few = f"id BETWEEN {low} AND {low + random.choice([0, 5, 300])}"
        some = f"id % {random.choice([7, 50, 400])} = {random.randint(0, 6)}"
        where = random.choice([few, few, some])
        update = f"UPDATE {table} SET n = n + {random.randint(1, 9)} WHERE {where}"
        wide = f"UPDATE {table} SET v = repeat(v, {random.choice([1, 2, 40])}) WHERE {few}"
        insert = self.inserted(table, random.choice([1, 20, 700]))
        delete = f"DELETE FROM {table} WHERE {where}"
        end = random.choice(["COMMIT", "COMMIT", "ROLLBACK"])
        return random.choice(
            [
                [update],
                [update],
                [wide],
                [insert],
                [delete],
                [f"SELECT nextval('counter') FROM {table} WHERE {few}"],
                ["BEGIN", update, "SAVEPOINT s", delete, "ROLLBACK TO s", insert, end],
                ["BEGIN", "SAVEPOINT s", delete, "RELEASE s", "SAVEPOINT s", update, end],
                ["BEGIN", delete, insert, f"SELECT 1 FROM {table} WHERE {few} FOR UPDATE", end],
            ]
        )

    def inserted(self, table: str, count: int) -> str:
        begin = self.random.randint(0, 4000)
        return (
            f"INSERT INTO {table} (id, n, v) SELECT g, g % 5, md5(g::text) || 'é'"
            f" FROM generate_series({begin}, {begin + count}) g"
        )

    # -- tables ------------------------------------------------------------------------------

    def new_table(self) -> list[str]:
        self._number += 1
        name = self.random.choice([f"t{self._number}", f'"T {self._number}"'])
        kind = self.random.choice(["", "", "", "UNLOGGED "])
        self.tables.append(Made(name))
        stays = self.random.choice(["", " WITH (fillfactor = 60)"])
        return [
            f"CREATE {kind}TABLE {name} (id integer, n bigint, v text){stays}",
            self.inserted(name, self.random.choice([5, 1500, 3000])),
        ]

    def dropped_table(self) -> list[str]:
        """Away, and perhaps another one under its name."""
        plain = [table for table in self.tables if table.is_plain]
        if len(plain) < 2:
            return self.rows()
        gone = self.random.choice(plain)
        told = [
            f"DELETE FROM pointers WHERE what = '{gone.name}'::regclass",
            f"DROP TABLE {gone.name}",
        ]
        self.tables.remove(gone)
        if self.random.random() < 0.6:
            self.tables.append(Made(gone.name))
            told += [
                f"CREATE TABLE {gone.name} (id integer, n bigint, v text)",
                self.inserted(gone.name, 1500),
            ]
        return told

    def refilled(self) -> list[str]:
        table = self.random.choice(self.tables).name
        return [
            "BEGIN",
            f"TRUNCATE {table}",
            f"COPY {table} (id) FROM PROGRAM 'seq {self.random.randint(1, 2000)}' (FREEZE)",
            "COMMIT",
        ]

    def rewritten(self) -> list[str]:
        table = self.random.choice(self.tables).name
        how = self.random.choice(
            ["VACUUM", "VACUUM FULL", "VACUUM FREEZE", "VACUUM (TRUNCATE)"]
        )
        if self.random.random() < 0.3:
            index = f"i{self._number}_{self.random.randint(0, 10**9)}"
            return [
                f"CREATE INDEX {index} ON {table} (n, id)",
                f"CLUSTER {table} USING {index}",
                f"DROP INDEX {index}",
            ]
        return [f"DELETE FROM {table} WHERE id % 3 = 1", f"{how} {table}"]

    def columns(self) -> list[str]:
        """One comes, one goes, or one goes and comes back under its name."""
        table = self.random.choice(self.tables)
        kind = self.random.choice(self._kinds())
        if table.columns and self.random.random() < 0.7:
            name = self.random.choice(table.columns)
            drop = f"ALTER TABLE {table.name} DROP COLUMN {name}"
            if self.random.random() < 0.6:
                return [drop, f"ALTER TABLE {table.name} ADD COLUMN {name} {kind}"]
            table.columns.remove(name)
            return [drop]
        name = f"c{len(table.columns)}_{self.random.randint(0, 10**6)}"
        table.columns.append(name)
        return [f"ALTER TABLE {table.name} ADD COLUMN {name} {kind}"]

    def types(self) -> list[str]:
        """A type changes that rows are made of, and no row does."""
        self._number += 1
        if self.random.random() < 0.5:
            old = self.random.randrange(len(self.labels))
            new = f"mood{self._number}"
            # Defaults follow the label by themselves.
            told = [f"ALTER TYPE mood RENAME VALUE '{self.labels[old]}' TO '{new}'"]
            self.labels[old] = new
            return told
        if len(self.attributes) > 2 and self.random.random() < 0.5:
            gone = self.attributes.pop()
            return [f"ALTER TYPE pair DROP ATTRIBUTE {gone} CASCADE"]
        self.attributes.append(f"z{self._number}")
        return [f"ALTER TYPE pair ADD ATTRIBUTE z{self._number} integer CASCADE"]

    def _kinds(self) -> list[str]:
        label, rest = self.labels[0], "," * (len(self.attributes) - 1)
        return [
            "integer DEFAULT 7",
            "text DEFAULT 'x'",
            f"mood DEFAULT '{label}'",
            f"mood[] DEFAULT '{{{label}}}'",
            f"pair DEFAULT '(1{rest})'",
            "bounded DEFAULT 5",
            "numeric(8,2) DEFAULT 1.5",
            "bytea",
        ]

    def renamed(self) -> list[str]:
        table = self.random.choice(self.tables)
        self._number += 1
        old, table.name = table.name, f"renamed{self._number}"
        return [f"ALTER TABLE {old} RENAME TO {table.name}"]

    def pointed(self) -> list[str]:
        name = self.random.choice(self.tables).name
        return [
            f"INSERT INTO pointers (what, whats) VALUES ('{name}', ARRAY['{name}'::regclass])"
        ]

    def counted(self) -> list[str]:
        value = self.random.randint(1, 10**6)
        return self.random.choice(
            [
                [f"SELECT setval('counter', {value}, false)"],
                [f"SELECT setval('counter', {value}, true)"],
                ["SELECT nextval('counter')"],
                [f"ALTER SEQUENCE counter RESTART WITH {value}"],
            ]
        )

    def objects(self) -> list[str]:
        """Large objects: made, written to, taken away."""
        if self.large_objects and self.random.random() < 0.6:
            number = self.random.choice(self.large_objects)
            if self.random.random() < 0.3:
                self.large_objects.remove(number)
                return [f"SELECT lo_unlink({number})"]
            at = self.random.randint(0, 9000)
            return [f"SELECT lo_put({number}, {at}, 'written {at}')"]
        self._number += 1
        number = 100_000 + self._number
        self.large_objects.append(number)
        return [f"SELECT lo_from_bytea({number}, decode(repeat('00ff0a5c', 2000), 'hex'))"]

    def secured(self) -> list[str]:
        table = self.random.choice(self.tables).name
        how = self.random.choice(["ENABLE", "DISABLE", "FORCE", "NO FORCE"])
        return [f"ALTER TABLE {table} {how} ROW LEVEL SECURITY"]
