"""What a snapshot says of files: entries in the order of a walk, in pages, each with its chunks."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import quote_from_bytes, unquote_to_bytes

import msgspec

from backups.store.packs import Piece

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backups.store.manifest import Manifest

SECTION = "files"
PAGES = "pages"
PAGE_ENTRIES = 512
ROOT = "."


class Kind(StrEnum):
    """What an entry is."""

    FILE = "f"
    FOLDER = "d"
    LINK = "l"
    SAME = "h"  # another name of an earlier file
    PIPE = "p"


class Chunk(msgspec.Struct, frozen=True, array_like=True):
    """`length` bytes from `inner` of a frame's plain bytes.

    `digest` is empty where the chunk is the whole file, whose own digest then speaks for it.
    """

    piece: Piece
    inner: int
    length: int
    digest: bytes


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One name below the root. `path` is percent-encoded where it is not printable UTF-8.

    `ctime_ns` is 0 where the file was changed so shortly before that its times prove nothing.
    `target` is a link's text, or the path of the first name of the same file. Blobs of a
    container have their ETag there, and neither mode nor owner.
    """

    path: str
    kind: Kind
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    ctime_ns: int
    size: int
    target: str
    digest: bytes
    chunks: tuple[Chunk, ...]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The section `files`: sums, and what could not be read."""

    files: int
    size_bytes: int
    problems: tuple[str, ...] = ()


def quoted(name: bytes) -> str:
    """A path as text: as it is where it is UTF-8 without `%`, else percent-encoded."""
    try:
        text = name.decode()
    except UnicodeDecodeError:
        text = ""
    if text and "%" not in text and "\0" not in text:
        return text
    return "%" + quote_from_bytes(name, safe="/ ")


def unquoted(text: str) -> bytes:
    """The path's bytes."""
    return unquote_to_bytes(text[1:]) if text.startswith("%") else text.encode()


def shown(path: bytes) -> str:
    """A path for people."""
    return path.decode(errors="backslashreplace")


def order(path: str) -> bytes:
    """A key that sorts paths as a walk meets them: a folder's contents right behind it."""
    if path == ROOT:
        return b""
    return unquoted(path).replace(b"/", b"\0")


def page_name(number: int, part: int = 0) -> str:
    """The section of a page; a page that grew has more parts."""
    return f"{SECTION}/{number:06d}.{part:03d}"


def page_sections(manifest: Manifest) -> list[str]:
    """The sections of a manifest that hold entries, in the order of a walk."""
    return sorted(name for name in manifest.sections() if name.startswith(SECTION + "/"))


def entries_of(manifest: Manifest) -> Iterator[Entry]:
    """Every entry, page by page."""
    for section in page_sections(manifest):
        yield from read_page(manifest, section)


def read_page(manifest: Manifest, section: str) -> list[Entry]:
    """The entries of one section."""
    try:
        return msgspec.json.decode(manifest.read(section), type=list[Entry])
    except msgspec.MsgspecError as error:
        raise manifest.damaged(f"section {section}: {error}") from error


def summary_of(manifest: Manifest) -> Summary:
    """The sums; zero where the snapshot holds no files."""
    if not manifest.has(SECTION):
        return Summary(files=0, size_bytes=0)
    return msgspec.json.decode(manifest.read(SECTION), type=Summary)


class Cursor:
    """Looks paths up in a snapshot, in rising order, holding one page at a time."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._sections = iter(page_sections(manifest))
        self._page: list[Entry] = []
        self._at = 0
        self._key = b""
        self._next()

    def find(self, key: bytes) -> Entry | None:
        """The entry whose `order` is `key`; keys never fall."""
        while self._page and self._key < key:
            self._next()
        return self._page[self._at] if self._page and self._key == key else None

    def _next(self) -> None:
        self._at += 1
        while self._at >= len(self._page):
            section = next(self._sections, None)
            if section is None:
                self._page = []
                return
            self._page, self._at = read_page(self._manifest, section), 0
        self._key = order(self._page[self._at].path)
