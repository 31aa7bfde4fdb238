"""The door to where a space's backups lie: a folder or a container, and how its calls are counted.

Objects are created once and never changed. Only the lease's own object, `lock`, is replaced and
removed, and only by whoever proves with its tag which version it means. So a writer needs no right
to delete, and two writers cannot spoil each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

LOCK = "lock"


@dataclass(frozen=True, slots=True)
class Stat:
    """An object of the store, as a listing shows it."""

    name: str
    size: int


class Spool(Protocol):
    """A file that is not an object yet: written at any offset by several threads, bounded in memory."""

    def write_at(self, offset: int, data: bytes) -> None:
        """Write `data` at `offset`."""
        ...

    def read(self) -> Iterator[bytes]:
        """Everything that was written, from the beginning, in pieces of at most 1 MiB."""
        ...

    def close(self) -> None:
        """Forget it; nothing of it stays."""
        ...


class ObjectStore(Protocol):
    """One space's objects. Safe for several threads.

    Every method raises `UnreachableError` where the store does not answer, and counts as one
    call in `calls` (a listing as one per page).
    """

    calls: Counter[str]

    def spool(self) -> Spool:
        """A new, empty file to be stored by `create`."""
        ...

    def create(self, name: str, data: bytes | Spool) -> bool:
        """Store an object under a name nobody used; false where the name is taken, whatever it holds.

        An answer that was lost is settled by reading: the same bytes there count as created.
        After it returns, the object outlives a power cut.
        """
        ...

    def open(self, name: str) -> BinaryIO:
        """The whole object, to be read anywhere and closed. Raises `NotFoundError`."""
        ...

    def read(self, name: str, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset`; fewer at the end. Raises `NotFoundError`."""
        ...

    def list(self, prefix: str = "") -> Iterator[Stat]:
        """Objects whose name begins with `prefix`, in order of names."""
        ...

    def read_lock(self) -> tuple[bytes, str] | None:
        """What `lock` holds, and the tag of that version; None where there is none."""
        ...

    def write_lock(self, data: bytes, *, tag: str | None) -> str | None:
        """Replace the version `tag` of `lock` (None: create it); the new tag, None if it changed."""
        ...

    def remove_lock(self, *, tag: str) -> bool:
        """Remove `lock` if it is still that version."""
        ...
