"""What each command of `python -m backups.local` does; answers are values, printed by `__main__`."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from backups.local.places import store_at
from backups.store import snapshots
from backups.store.keys import KEY_BYTES, read_key
from backups.store.snapshots import Listing
from spaces.errors import Exit, InvalidError, RefusedError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot in a list."""

    backup_id: str
    state: str
    started_at: str
    completed_at: str
    bytes_stored: int


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a command gives: its object, what people are told besides, and its exit code."""

    shown: object
    notes: list[str] = []
    exit: Exit = Exit.DONE


def keygen(options: Namespace, _say: Callable[[str], None]) -> Answer:
    """Make a data key; never over one that is there."""
    path = Path(options.key_file)
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise RefusedError(
            f"{path} is there already",
            remedy="What was stored with it needs it: name another file.",
        ) from None
    except OSError as error:
        raise InvalidError(f"{path} cannot be written: {error.strerror}") from error
    with os.fdopen(number, "wb") as file:
        file.write(secrets.token_bytes(KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    return Answer(shown={"key_file": str(path)})


def backup(options: Namespace, say: Callable[[str], None]) -> Answer:
    """Back up what the options name."""
    from backups.files.walk import Walk  # noqa: PLC0415
    from backups.local.run import Order, back_up  # noqa: PLC0415 — `list` needs none of it

    source = None
    if options.dsn is not None:
        from backups.database.capture import Source  # noqa: PLC0415 — slow to import

        source = Source(
            dsn=options.dsn, pg_bin=Path(options.pg_bin) if options.pg_bin else None
        )
    result = back_up(
        Order(
            store=store_at(options.store),
            keys=read_key(Path(options.key_file)),
            database=source,
            files=Walk(Path(options.files)) if options.files is not None else None,
            settings=_settings(options.settings),
            full=options.full,
            time_box_s=options.time_box,
            progress=say,
        )
    )
    notes = [f"not captured: {problem}" for problem in result.problems]
    notes += [f"audit: {stale}" for stale in result.audit]
    return Answer(
        shown=result,
        notes=notes,
        exit=Exit.FAILED if result.state == "partial" else Exit.DONE,
    )


def restore(options: Namespace, say: Callable[[str], None]) -> Answer:
    """Bring a snapshot back into the places the options name."""
    from backups.local.restore import Wish, bring_back  # noqa: PLC0415

    table, path = _only(options)
    result = bring_back(
        Wish(
            store=store_at(options.store),
            keys=read_key(Path(options.key_file)),
            at=options.at,
            dsn=options.dsn,
            pg_bin=Path(options.pg_bin) if options.pg_bin else None,
            jobs=options.jobs,
            files=Path(options.files) if options.files is not None else None,
            settings=Path(options.settings) if options.settings is not None else None,
            table=table,
            path=path,
            skip_damaged=options.skip_damaged,
            dry_run=options.dry_run,
            progress=say,
        )
    )
    exits = {"partial": Exit.FAILED, "complete, store damaged": Exit.DAMAGED}
    return Answer(
        shown=result,
        notes=[f"damaged: {damage['message']}" for damage in result.damage],
        exit=exits.get(result.state, Exit.DONE),
    )


def verify(options: Namespace, say: Callable[[str], None]) -> Answer:
    """Verify a store."""
    from backups.local.verify import Check, verify  # noqa: PLC0415

    result = verify(
        Check(
            store=store_at(options.store),
            keys=read_key(Path(options.key_file)),
            full=options.full,
            rolling=options.rolling,
            progress=say,
        )
    )
    return Answer(
        shown=result,
        notes=[
            f"damaged: {found.object}: {found.problem}; snapshots: "
            f"{', '.join(found.snapshots) or 'none'}; affected: "
            f"{', '.join(found.affects) or 'nothing that a restore needs'}"
            for found in result.findings
        ],
        exit=Exit.DAMAGED if result.findings else Exit.DONE,
    )


def list_snapshots(options: Namespace, _say: Callable[[str], None]) -> Answer:
    """The snapshots of a store, oldest first; one that is damaged is listed as such."""
    store, keys = store_at(options.store), read_key(Path(options.key_file))
    listing = Listing.of(store)
    key_damage = snapshots.check_key(store, keys, listing)
    seen, damage = snapshots.look_at_chain(store, keys, listing)
    items = {
        one.name: Item(
            backup_id=one.header.backup_id,
            state=one.header.state,
            started_at=one.header.started_at,
            completed_at=one.header.completed_at,
            bytes_stored=one.header.bytes_stored,
        )
        for one in seen
    }
    for error in damage:
        name = str(error.members["object"])
        items.setdefault(
            name,
            Item(
                backup_id=name.removeprefix("s/"),
                state="damaged",
                started_at="",
                completed_at="",
                bytes_stored=listing.sizes.get(name, 0),
            ),
        )
    damage = [*damage, *([key_damage] if key_damage else [])]
    return Answer(
        shown={"items": [items[name] for name in sorted(items)]},
        notes=[f"damaged: {error}" for error in damage],
        exit=Exit.DAMAGED if damage else Exit.DONE,
    )


def _settings(name: str | None) -> bytes | None:
    if name is None:
        return None
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise InvalidError(f"the settings {name} cannot be read: {error.strerror}") from error


def _only(options: Namespace) -> tuple[str | None, str | None]:
    """The table or path of `--only`; what it leaves out may not be named as a target."""
    only: str | None = options.only
    if only is None:
        return None, None
    kind, _, name = only.partition(":")
    wanted = {"table": "dsn", "path": "files", "settings": "settings"}.get(kind)
    if wanted is None or (kind == "settings") is bool(name):
        raise InvalidError("--only takes table:NAME, path:PATH or settings")
    for target in ("dsn", "files", "settings"):
        if (getattr(options, target) is None) is (target == wanted):
            raise InvalidError(f"--only {kind} needs --{wanted}, and no other target")
    return (name, None) if kind == "table" else (None, name if kind == "path" else None)
