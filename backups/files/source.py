"""Where files come from: a folder (`walk`), or a container's blobs (`backups.attached`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backups.files.model import Entry


class Opened(Protocol):
    """A file that is open for reading, once; closed at the end of `with`."""

    size: int

    def __enter__(self) -> Self:
        """Open it. Raises `FileNotFoundError` or another `OSError`."""
        ...

    def __exit__(self, *_: object) -> None:
        """Close it."""
        ...

    def read(self, size: int) -> bytes:
        """`size` bytes, fewer at the end only."""
        ...

    def read_all(self) -> bytes:
        """All of it."""
        ...

    def seen(self, entry: Entry, size: int) -> tuple[bool, Entry]:
        """Whether it stayed as it was while `size` bytes were read, and its entry as read."""
        ...


class Source(Protocol):
    """Files to capture. What cannot be read is named in `problems`, and makes a run partial."""

    problems: list[str]

    def entries(self) -> Iterator[tuple[bytes, Entry]]:
        """Path (bytes, below the root) and entry, without contents, in the order of `model.order`."""
        ...

    def open(self, path: bytes) -> Opened:
        """A file, to be opened by `with`."""
        ...

    def has_folder_of(self, path: bytes) -> bool:
        """Whether the folder of a file that vanished is still there: then the file was removed."""
        ...

    def see_that_it_stayed(self) -> None:
        """Look at the root again, and name it in `problems` if it is no longer what it was."""
        ...
