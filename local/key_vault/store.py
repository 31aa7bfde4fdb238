"""Everything the vaults hold, in one SQLite file: secrets, keys, and what was deleted of them.

A secret and a key are the same thing here: versions under a name, each a payload (the value,
or the private key as PEM), details (what may be shown) and attributes. What a call returned
from is committed to disk. The file is for the home's owner alone; payloads are not encrypted
in it, which a vault of Azure does. Purged rows are overwritten.
"""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

KEPT_DELETED_DAYS = 90

_SCHEMA = """
CREATE TABLE IF NOT EXISTS item (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    vault TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL,
    payload TEXT NOT NULL, details TEXT NOT NULL, attributes TEXT NOT NULL, tags TEXT NOT NULL,
    created INTEGER NOT NULL, updated INTEGER NOT NULL,
    UNIQUE (vault, kind, name, version)
);
CREATE TABLE IF NOT EXISTS deleted (
    vault TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, deleted_at INTEGER NOT NULL,
    PRIMARY KEY (vault, kind, name)
);
"""
_COLUMNS = "kind, name, version, payload, details, attributes, tags, created, updated"


class Kind(StrEnum):
    """What a vault keeps; the value is also the word in its paths."""

    SECRET = "secrets"  # noqa: S105 — a word of a path
    KEY = "keys"


class DeletedNameError(Exception):
    """The name belongs to something deleted that can still be recovered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One version of a secret or key. Times are whole seconds since 1970."""

    kind: Kind
    name: str
    version: str
    payload: str
    details: dict[str, Any]
    attributes: dict[str, Any]  # enabled, and nbf and exp where given
    tags: dict[str, str] | None
    created: int
    updated: int


class Store:
    """The file. One process uses it; every call is one short transaction."""

    def __init__(self, path: Path) -> None:
        path.touch(mode=0o600)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("PRAGMA secure_delete=ON")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def add(
        self,
        vault: str,
        kind: Kind,
        name: str,
        *,
        payload: str,
        details: dict[str, Any],
        attributes: dict[str, Any],
        tags: dict[str, str] | None,
    ) -> Item:
        """Add a version, which becomes the latest.

        Raises:
            DeletedNameError: the name is deleted and neither recovered nor purged.
        """
        now = int(time.time())
        item = Item(
            kind=kind,
            name=name,
            version=uuid.uuid4().hex,
            payload=payload,
            details=details,
            attributes=attributes,
            tags=tags,
            created=now,
            updated=now,
        )
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            if self.deleted_at(vault, kind, name) is not None:
                raise DeletedNameError(name)
            self._db.execute(
                f"INSERT INTO item (vault, {_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?)",  # noqa: S608 — column names of this file
                (
                    vault,
                    kind,
                    name,
                    item.version,
                    payload,
                    json.dumps(details),
                    json.dumps(attributes),
                    json.dumps(tags),
                    now,
                    now,
                ),
            )
        return item

    def find(self, vault: str, kind: Kind, name: str, version: str = "") -> Item | None:
        """One version, or the latest; None when unknown or deleted."""
        if self.deleted_at(vault, kind, name) is not None:
            return None
        return self._latest(vault, kind, name, version)

    def versions(self, vault: str, kind: Kind, name: str) -> list[Item]:
        """All versions of a name that is not deleted, oldest first."""
        if self.deleted_at(vault, kind, name) is not None:
            return []
        return self._select("vault=? AND kind=? AND name=? ORDER BY seq", vault, kind, name)

    def latest(self, vault: str, kind: Kind, *, deleted: bool = False) -> list[Item]:
        """The latest version of every name by name, either the living or the deleted ones."""
        return self._select(
            "seq IN (SELECT max(seq) FROM item WHERE vault=? AND kind=? GROUP BY name)"
            " AND (EXISTS (SELECT 1 FROM deleted d WHERE d.vault=item.vault"
            " AND d.kind=item.kind AND d.name=item.name)) = ? ORDER BY name",
            vault,
            kind,
            deleted,
        )

    def change(
        self,
        vault: str,
        item: Item,
        *,
        details: dict[str, Any],
        attributes: dict[str, Any],
        tags: dict[str, str] | None,
    ) -> Item:
        """Replace what may change of a version; its payload never does."""
        with self._db:
            self._db.execute(
                "UPDATE item SET details=?, attributes=?, tags=?, updated=?"
                " WHERE vault=? AND kind=? AND name=? AND version=?",
                (
                    json.dumps(details),
                    json.dumps(attributes),
                    json.dumps(tags),
                    int(time.time()),
                    vault,
                    item.kind,
                    item.name,
                    item.version,
                ),
            )
        changed = self._latest(vault, item.kind, item.name, item.version)
        return changed or item

    def delete(self, vault: str, kind: Kind, name: str) -> Item | None:
        """Mark a name deleted; its versions stay until they are recovered or purged."""
        item = self.find(vault, kind, name)
        if item is not None:
            with self._db:
                self._db.execute(
                    "INSERT INTO deleted VALUES (?,?,?,?)",
                    (vault, kind, name, int(time.time())),
                )
        return item

    def deleted_at(self, vault: str, kind: Kind, name: str) -> int | None:
        """When a name was deleted, or None."""
        row = self._db.execute(
            "SELECT deleted_at FROM deleted WHERE vault=? AND kind=? AND name=?",
            (vault, kind, name),
        ).fetchone()
        return row[0] if row else None

    def find_deleted(self, vault: str, kind: Kind, name: str) -> Item | None:
        """The latest version of a deleted name, or None."""
        if self.deleted_at(vault, kind, name) is None:
            return None
        return self._latest(vault, kind, name)

    def recover(self, vault: str, kind: Kind, name: str) -> Item | None:
        """Take a deletion back; None when there was none."""
        item = self.find_deleted(vault, kind, name)
        with self._db:
            self._db.execute(
                "DELETE FROM deleted WHERE vault=? AND kind=? AND name=?", (vault, kind, name)
            )
        return item

    def purge(self, vault: str, kind: Kind, name: str) -> bool:
        """Remove a deleted name for good; False when it was not deleted."""
        if self.deleted_at(vault, kind, name) is None:
            return False
        with self._db:
            for table in ("item", "deleted"):
                self._db.execute(
                    f"DELETE FROM {table} WHERE vault=? AND kind=? AND name=?",  # noqa: S608 — table names from the line above
                    (vault, kind, name),
                )
        self._truncate_log()
        return True

    def keep_only(self, vaults: Iterable[str]) -> None:
        """Remove all that belongs to vaults other than these."""
        kept = list(vaults)
        marks = ",".join("?" * len(kept))
        removed = 0
        with self._db:
            for table in ("item", "deleted"):
                removed += self._db.execute(
                    f"DELETE FROM {table} WHERE vault NOT IN ({marks})",  # noqa: S608 — question marks only
                    kept,
                ).rowcount
        if removed:
            self._truncate_log()

    def _latest(self, vault: str, kind: Kind, name: str, version: str = "") -> Item | None:
        which, values = (" AND version=?", (version,)) if version else ("", ())
        found = self._select(
            f"vault=? AND kind=? AND name=?{which} ORDER BY seq DESC LIMIT 1",
            vault,
            kind,
            name,
            *values,
        )
        return found[0] if found else None

    def _select(self, where: str, *values: object) -> list[Item]:
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM item WHERE {where}",  # noqa: S608 — conditions written in this file, values bound
            values,
        )
        return [
            Item(
                kind=Kind(kind),
                name=name,
                version=version,
                payload=payload,
                details=json.loads(details),
                attributes=json.loads(attributes),
                tags=json.loads(tags),
                created=created,
                updated=updated,
            )
            for kind, name, version, payload, details, attributes, tags, created, updated in rows
        ]

    def _truncate_log(self) -> None:
        # The write-ahead log still holds the removed rows' pages.
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
