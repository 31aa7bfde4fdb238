"""Capture files: walk them beside the last snapshot's entries, store what differs.

Walk and snapshot run in the same order, a page at a time each, so that memory does not grow with
the number of files. A file whose size and times are those of the snapshot is not opened.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from backups.files import model
from backups.files.contents import Contents, Pending
from backups.files.index import Index
from backups.files.model import Chunk, Cursor, Entry, Kind, Summary
from backups.files.source import Source
from backups.store.manifest import Manifest

if TYPE_CHECKING:
    from backups.store.keys import Keys
    from backups.store.manifest import ManifestWriter
    from backups.store.packs import Writer

_WAITING_PAGES = 16
_PART_WEIGHT = 8192


@dataclass(frozen=True, slots=True)
class Captured:
    """What came of it: the sums, bytes read, packs in use, and whether time ran out."""

    summary: Summary
    bytes_read: int
    packs: set[int]
    is_unfinished: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """From where, and what is known already.

    `earlier` are snapshots whose chunks may be referred to again, the best first. `stored` holds
    what an attempt that died had stored. `note` is told of each new chunk.
    """

    source: Source
    earlier: Sequence[Manifest]
    stored: Index
    note: Callable[[bytes, Chunk], None]
    is_late: Callable[[], bool]
    progress: Callable[[int, int], None]


def capture(plan: Plan, writer: Writer, keys: Keys, manifest: ManifestWriter) -> Captured:
    """Add the files' pages to the manifest; their chunks may still be on their way to the store."""
    source = plan.source
    known = _Known(plan)
    contents = Contents(source, writer, keys, known=known.index, note=plan.note)
    pages = _Pages(manifest, contents)
    cursors = [Cursor(earlier) for earlier in plan.earlier]
    is_unfinished = False
    try:
        for path, entry in source.entries():
            if plan.is_late():
                is_unfinished = True
                break
            pages.add(_pending(path, entry, cursors, contents))
            plan.progress(pages.files, contents.tally.bytes_read)
        pages.finish()
    finally:
        contents.close()
    source.see_that_it_stayed()
    problems = [*source.problems, *contents.tally.problems]
    problems += pages.dangling(contents.tally.vanished)
    summary = Summary(
        files=pages.files, size_bytes=pages.size_bytes, problems=tuple(sorted(set(problems)))
    )
    manifest.add(model.SECTION, msgspec.json.encode(summary))
    return Captured(summary, contents.tally.bytes_read, pages.packs, is_unfinished)


def _pending(path: bytes, entry: Entry, cursors: list[Cursor], contents: Contents) -> Pending:
    if entry.kind is not Kind.FILE:
        return Pending(path, entry, is_done=True)
    key = model.order(entry.path)
    for cursor in cursors:
        before = cursor.find(key)
        if before is not None and _is_same(before, entry):
            same = msgspec.structs.replace(entry, digest=before.digest, chunks=before.chunks)
            return Pending(path, same, is_done=True)
    pending = Pending(path, entry)
    contents.submit(pending)
    return pending


def _is_same(before: Entry, now: Entry) -> bool:
    return (
        before.kind is Kind.FILE
        and before.size == now.size
        and before.mtime_ns == now.mtime_ns
        and before.ctime_ns == now.ctime_ns
        and before.target == now.target
    )


class _Known:
    """The index of everything stored, built when the first new file asks."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._index: Index | None = None if plan.earlier else plan.stored

    def index(self) -> Index:
        if self._index is None:
            index = self._plan.stored
            for manifest in self._plan.earlier:
                for entry in model.entries_of(manifest):
                    for chunk in entry.chunks:
                        index.add(chunk.digest or entry.digest, chunk)
            self._index = index
        return self._index


class _Pages:
    """Entries into pages that begin where the base's do, so that equal pages are equal bytes."""

    def __init__(self, manifest: ManifestWriter, contents: Contents) -> None:
        self.files = 0
        self.size_bytes = 0
        self.packs: set[int] = set()
        self._manifest = manifest
        self._contents = contents
        self._waiting: deque[tuple[str, list[Pending]]] = deque()
        self._page: list[Pending] = []
        self._number = 0
        self._part = 0
        self._firsts: list[str] = []
        self._links: set[str] = set()
        base = manifest.base
        self._bounds: list[bytes] | None = None
        if base is not None and base.has(model.PAGES):
            self._firsts = msgspec.json.decode(base.read(model.PAGES), type=list[str])
            self._bounds = [model.order(first) for first in self._firsts]

    def add(self, pending: Pending) -> None:
        """Take an entry; entries come in order."""
        entry = pending.entry
        if entry is None:
            return
        if self._bounds is not None:
            key = model.order(entry.path)
            while (
                self._number + 1 < len(self._bounds) and self._bounds[self._number + 1] <= key
            ):
                self._turn()
        elif len(self._page) >= model.PAGE_ENTRIES:
            self._turn()
        if self._bounds is None and not self._page:
            self._firsts.append(entry.path)
        self._page.append(pending)
        if entry.kind is Kind.SAME:
            self._links.add(entry.target)
        if len(self._page) >= _PART_WEIGHT:
            self._hand_over()
            self._part += 1

    def finish(self) -> None:
        """Write what is left, and where pages begin."""
        self._hand_over()
        self._contents.settle()
        while self._waiting:
            self._write()
        self._manifest.add(model.PAGES, msgspec.json.encode(self._firsts))

    def dangling(self, vanished: list[str]) -> list[str]:
        """Files that went away although other names were recorded as names of them."""
        return [
            f"{path}: removed during the run, but has other names"
            for path in vanished
            if path in self._links
        ]

    def _turn(self) -> None:
        self._hand_over()
        self._number += 1
        self._part = 0

    def _hand_over(self) -> None:
        if self._page:
            self._waiting.append((model.page_name(self._number, self._part), self._page))
            self._page = []
        while self._waiting and all(one.is_done for one in self._waiting[0][1]):
            self._write()
        if len(self._waiting) > _WAITING_PAGES:
            self._contents.settle()

    def _write(self) -> None:
        name, page = self._waiting.popleft()
        entries = [one.entry for one in page if one.entry is not None]
        for entry in entries:
            if entry.kind in {Kind.FILE, Kind.SAME}:
                self.files += 1
                self.size_bytes += entry.size
            self.packs.update(chunk.piece.pack for chunk in entry.chunks)
        if entries:
            self._manifest.add(name, msgspec.json.encode(entries))
