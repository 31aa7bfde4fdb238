"""Snapshots of databases in a folder, one after the other, as a run of backups makes them."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from backups.database.capture import OutOfTimeError, Source, capture
from backups.database.model import DatabasePart
from backups.database.restore import restore
from backups.store.folder import FolderStore
from backups.store.keys import Keys
from backups.store.packs import PackList, Reader, Writer

if TYPE_CHECKING:
    from random import Random

DAY = date(2026, 11, 24)


@dataclass(slots=True)
class Vault:
    """`parts` are all snapshots, oldest first; each was encoded and decoded as manifests are."""

    root: Path
    pg_bin: Path | None = None
    keys: Keys = field(default_factory=lambda: Keys(b"0123456789abcdef" * 2))
    packs: PackList = field(default_factory=PackList)
    parts: list[DatabasePart] = field(default_factory=list)
    stored: list[int] = field(default_factory=list)
    runs: int = 0

    @property
    def store(self) -> FolderStore:
        return FolderStore(self.root)

    def reader(self) -> Reader:
        return Reader(self.store, self.keys, packs=self.packs)

    def capture(
        self,
        dsn: str,
        *,
        day: date = DAY,
        full: bool = False,
        previous: DatabasePart | None = None,
        opened: Any = None,
        connections: int = 2,
        **more: Any,
    ) -> DatabasePart:
        self.runs += 1
        before = previous or (self.parts[-1] if self.parts else None)
        writer = Writer(self.store, self.keys, run=f"r{self.runs}", packs=self.packs)
        with closing(writer):
            try:
                part = capture(
                    Source(dsn=dsn, pg_bin=self.pg_bin, opened=opened, connections=connections),
                    before,
                    writer,
                    self.reader() if before else None,
                    full=full,
                    today=day,
                    key=self.keys.digest_key,
                    **more,
                )
            finally:
                writer.finish()
            self.stored.append(writer.bytes_stored)
        kept = msgspec.json.decode(msgspec.json.encode(part), type=DatabasePart)
        self.parts.append(kept)
        return kept

    def restore(self, dsn: str, part: DatabasePart | None = None, **more: Any) -> list[Any]:
        return restore(
            dsn,
            part or self.parts[-1],
            self.reader(),
            key=self.keys.digest_key,
            pg_bin=self.pg_bin,
            **more,
        )


class Engine:
    """The engine itself, as the subject of a history; some runs are cut short and go on."""

    def __init__(self, vault: Vault) -> None:
        self.vault = vault

    def back_up(
        self, dsn: str, *, day: date, full: bool, opened: Any, chance: Random
    ) -> DatabasePart:
        looks = iter([False] * chance.randint(0, 30))
        deadline = (lambda: next(looks, True)) if chance.random() < 0.15 else (lambda: False)
        options: dict[str, Any] = {"day": day, "full": full, "opened": opened}
        options["connections"] = chance.choice([1, 2, 3])
        try:
            return self.vault.capture(dsn, deadline=deadline, **options)
        except OutOfTimeError as stopped:
            return self.vault.capture(dsn, previous=stopped.part, **options)

    def restore(self, taken: DatabasePart, dsn: str) -> None:
        self.vault.restore(dsn, taken)

    def findings(self, taken: DatabasePart) -> int:
        return len(taken.findings)
