"""Table Storage: rows, conditional writes, transactions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from spaces.errors import DamagedError

MOST_WRITES = 100

type Scalar = str | int | bool | float | datetime | bytes


def instant(value: Scalar) -> datetime:
    """A stored time as a time; anything else is damage of the row."""
    if not isinstance(value, datetime):
        raise DamagedError(f"a row holds {type(value).__name__} where a time belongs")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One entity as it was read: its values without the keys, and the ETag of that version."""

    partition: str
    key: str
    etag: str
    values: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class Insert:
    """Create the row; a row there already refuses the whole transaction (`ConflictError`)."""

    key: str
    values: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class Replace:
    """Overwrite exactly the version `etag`; another version refuses it all (`LostRaceError`)."""

    key: str
    values: Mapping[str, Scalar]
    etag: str


@dataclass(frozen=True, slots=True)
class Put:
    """Insert or overwrite. Only beside an `Insert` or a `Replace` that guards the transaction."""

    key: str
    values: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove the row. With `etag`, exactly that version; without, whatever is there, or nothing."""

    key: str
    etag: str | None = None


type Write = Insert | Replace | Put | Delete


def check_writes(writes: Sequence[Write]) -> None:
    """Raise `ValueError` for what is no transaction: its size, a key twice, an unguarded `Put`."""
    if not 1 <= len(writes) <= MOST_WRITES:
        raise ValueError(f"a transaction has 1 to {MOST_WRITES} writes, not {len(writes)}")
    if len({write.key for write in writes}) != len(writes):
        raise ValueError("a transaction writes each key once")
    if any(isinstance(write, Put) for write in writes) and not any(
        isinstance(write, (Insert, Replace)) for write in writes
    ):
        raise ValueError("a Put stands beside an Insert or a Replace that guards it")


class Tables(Protocol):
    """Azure Table Storage: partitions, conditional writes, entity group transactions."""

    async def get(self, table: str, partition: str, key: str) -> Stored | None:
        """One row, or None where there is none. Raises `TransientError`, `ThrottledError`."""
        ...

    async def query(
        self,
        table: str,
        *,
        partition: str | None = None,
        key_from: str | None = None,
        key_below: str | None = None,
        limit: int | None = None,
    ) -> list[Stored]:
        """Rows in key order, `key_from <= key < key_below`; all partitions where none is given.

        Follows continuation tokens to the end or to `limit`.
        """
        ...

    async def commit(self, table: str, partition: str, writes: Sequence[Write]) -> None:
        """Apply all writes or none; what `check_writes` refuses is a `ValueError`.

        Raises `ConflictError`, `LostRaceError`, `ThrottledError`; `UnknownError` where the answer
        was lost and the rows must be read to know. A `Delete` of a missing row without an ETag
        counts as done.
        """
        ...
