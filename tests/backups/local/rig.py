"""Runs of the engine on a store of any kind, without a database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from backups.files.walk import Walk
from backups.local.restore import Wish, bring_back
from backups.local.run import Order, back_up
from backups.local.verify import Check, verify
from backups.store.keys import Keys

if TYPE_CHECKING:
    from pathlib import Path

    from backups.local.facts import Result
    from backups.local.restore import Restored
    from backups.local.verify import Verified
    from backups.store.objects import ObjectStore

KEYS = Keys(b"k" * 32)
SETTINGS = b'{"title": "acme"}'


def run(
    store: ObjectStore,
    files: Path | None,
    *,
    settings: bytes | None = SETTINGS,
    keys: Keys = KEYS,
    full: bool = False,
    time_box_s: float | None = None,
    at: datetime | None = None,
) -> Result:
    """One backup."""
    return back_up(
        Order(
            store=store,
            keys=keys,
            files=Walk(files) if files is not None else None,
            settings=settings,
            full=full,
            time_box_s=time_box_s,
            now=(lambda: at) if at else lambda: datetime.now(UTC),
        )
    )


def back(
    store: ObjectStore,
    target: Path,
    *,
    at: str = "latest",
    keys: Keys = KEYS,
    skip_damaged: bool = False,
    path: str | None = None,
) -> Restored:
    """One restore, of files and settings."""
    return bring_back(
        Wish(
            store=store,
            keys=keys,
            at=at,
            files=target,
            settings=target.with_name(target.name + ".settings") if path is None else None,
            path=path,
            skip_damaged=skip_damaged,
        )
    )


def check(store: ObjectStore, *, full: bool = True, keys: Keys = KEYS) -> Verified:
    """One verification."""
    return verify(Check(store=store, keys=keys, full=full))
