"""What a run says of itself: in its manifest, and to whoever started it."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

SECTION = "run"
DATABASE = "database"
SETTINGS = "settings"


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The section `run`: what the snapshot holds, what could not be captured, whose it is."""

    tables: dict[str, int]
    files: int
    bytes_read: int
    has_database: bool
    has_files: bool
    has_settings: bool
    is_finished: bool
    problems: tuple[str, ...] = ()
    audit: tuple[str, ...] = ()
    about: dict[str, str] = {}


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a backup prints."""

    backup_id: str
    state: str
    kind: str
    seconds: float
    bytes_read: int
    bytes_stored: int
    storage_calls: int
    tables: dict[str, int]
    files: int
    root_hash: str
    expires_at: str
    problems: tuple[str, ...] = ()
    audit: tuple[str, ...] = ()


def stamp(moment: datetime) -> str:
    """RFC 3339 in UTC."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def backup_id(sequence: int, started_at: datetime) -> str:
    """The id of a snapshot: its number, and when it began; ids sort by age."""
    return f"{sequence:08d}-{started_at.astimezone(UTC):%Y%m%dT%H%M%SZ}"
