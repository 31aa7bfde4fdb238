"""One backup run: lease, what came before, database, files, settings; the manifest last of all.

Until the manifest is written nothing of the run can be seen in a list. A run that dies leaves
packs and a journal, which the next one uses. Correctness never depends on the lease.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from backups.expiry import expires_at
from backups.files import capture as files
from backups.files.model import Summary
from backups.files.source import Source
from backups.local import facts
from backups.local.earlier import Earlier, find_earlier
from backups.local.facts import DATABASE, SETTINGS, Facts, Result, stamp
from backups.store import snapshots
from backups.store.journal import Journal
from backups.store.keys import Keys
from backups.store.lease import Lease
from backups.store.manifest import Header, ManifestWriter, add_long, name_of, open_manifest
from backups.store.objects import ObjectStore
from backups.store.packs import Reader, Writer
from backups.store.snapshots import Listing
from spaces.errors import InvalidError

if TYPE_CHECKING:
    from backups.database.capture import Source as Database  # noqa: TC004 — slow to import
    from backups.database.model import DatabasePart
    from backups.files.model import Chunk


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to back up, and where to. Of `database`, `files` and `settings` any may be None.

    `time_box_s` ends reading; what is read by then becomes a partial snapshot to continue from.
    `backup_id` and `keep_until` are the store's own where they are not given; `about` is kept.
    """

    store: ObjectStore
    keys: Keys
    database: Database | None = None
    files: Source | None = None
    settings: bytes | None = None
    full: bool = False
    time_box_s: float | None = None
    space: str = ""
    backup_id: str = ""
    keep_until: datetime | None = None
    about: Mapping[str, str] = field(default_factory=dict[str, str])
    progress: Callable[[str], None] = lambda _said: None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


def back_up(order: Order) -> Result:
    """Make one snapshot.

    Raises `RefusedError` (another runner), `WrongKeyError`, `UnreachableError` (then nothing of
    this run can be seen), `InvalidError`.
    """
    if order.database is None and order.files is None and order.settings is None:
        raise InvalidError("there is nothing to back up: name a database, files or settings")
    began = time.monotonic()
    run_id = secrets.token_hex(6)
    with Lease(order.store, run_id):
        run = _Run(order, run_id, find_earlier(order.store, order.keys, now=order.now()))
        try:
            header, root_hash = run.make()
        finally:
            run.close()
    seconds = time.monotonic() - began
    return run.result(header, root_hash, seconds=seconds)


@dataclass(slots=True)
class _Captured:
    tables: dict[str, int] = field(default_factory=dict[str, int])
    summary: Summary | None = None
    bytes_read: int = 0
    packs: set[int] = field(default_factory=set[int])
    problems: list[str] = field(default_factory=list[str])
    audit: list[str] = field(default_factory=list[str])
    is_finished: bool = True


class _Run:
    """The state of one run."""

    def __init__(self, order: Order, run_id: str, earlier: Earlier) -> None:
        self._order = order
        self._run = run_id
        self._earlier = earlier
        self._started_at = order.now()
        self._began = time.monotonic()
        self._captured = _Captured()
        store, keys = order.store, order.keys
        self._journal = Journal(store, keys, sequence=earlier.sequence, run=run_id)
        self._manifest = ManifestWriter(keys, sequence=earlier.sequence, base=earlier.base)
        self._writer = Writer(
            store,
            keys,
            run=run_id,
            packs=earlier.packs,
            known=earlier.known,
            on_stored=self._journal.stored,
        )
        self._journal.follow(self._writer)
        for warning in earlier.warnings:
            order.progress(f"warning: {warning}; this backup builds on nothing damaged")
        if earlier.resumed:
            order.progress(f"continuing: {earlier.resumed} pieces are stored already")

    def make(self) -> tuple[Header, str]:
        """Capture, then publish."""
        try:
            self._capture()
            self._writer.finish()
        except BaseException:
            self._leave_journal()
            raise
        return self._publish()

    def close(self) -> None:
        """Let go of threads and files."""
        self._writer.close()
        self._manifest.close()
        self._earlier.close()

    def result(self, header: Header, root_hash: str, *, seconds: float) -> Result:
        """What is printed."""
        captured = self._captured
        return Result(
            backup_id=header.backup_id,
            state=header.state,
            kind=header.kind,
            seconds=round(seconds, 3),
            bytes_read=captured.bytes_read,
            bytes_stored=header.bytes_stored,
            storage_calls=self._order.store.calls.total(),
            tables=captured.tables,
            files=captured.summary.files if captured.summary else 0,
            root_hash=root_hash,
            expires_at=header.expires_at,
            problems=tuple(captured.problems),
            audit=tuple(captured.audit),
        )

    def _capture(self) -> None:
        captured, order = self._captured, self._order
        if order.database is not None:
            self._capture_database(order.database)
        if order.files is not None:
            self._capture_files(order.files)
        if order.settings is not None:
            captured.bytes_read += len(order.settings)
            add_long(self._manifest, SETTINGS, order.settings)
        self._manifest.add(
            facts.SECTION,
            msgspec.json.encode(
                Facts(
                    tables=captured.tables,
                    files=captured.summary.files if captured.summary else 0,
                    bytes_read=captured.bytes_read,
                    has_database=order.database is not None,
                    has_files=order.files is not None,
                    has_settings=order.settings is not None,
                    is_finished=captured.is_finished,
                    problems=tuple(captured.problems),
                    audit=tuple(captured.audit),
                    about=dict(order.about),
                )
            ),
        )

    def _capture_database(self, source: Database) -> None:
        from backups.database import capture as database  # noqa: PLC0415 — slow to import
        from backups.database.model import references  # noqa: PLC0415

        order = self._order
        captured = self._captured
        try:
            part = database.capture(
                source,
                self._previous_part(),
                self._writer,
                self._reader(),
                full=order.full,
                today=self._started_at.date(),
                key=order.keys.digest_key,
                deadline=self._is_late,
                progress=order.progress,
            )
        except database.OutOfTimeError as error:
            part = error.part
            captured.is_finished = False
            captured.problems.append("the time box ended before the database was read")
        captured.tables = part.rows()
        captured.bytes_read += part.bytes_read
        captured.packs.update(piece.pack for piece in references(part))
        captured.audit += [
            f"{found.table}, blocks {found.start} to {found.end}: earlier snapshots since "
            f"{found.since} hold stale rows"
            for found in part.findings
        ]
        add_long(self._manifest, DATABASE, msgspec.json.encode(part))

    def _capture_files(self, source: Source) -> None:
        captured, earlier, order = self._captured, self._earlier, self._order
        done = files.capture(
            files.Plan(
                source=source,
                earlier=[] if order.full else earlier.manifests,
                stored=earlier.chunks,
                note=self._note,
                is_late=self._is_late,
                progress=_every(5000, order.progress),
            ),
            self._writer,
            order.keys,
            self._manifest,
        )
        captured.summary = done.summary
        captured.bytes_read += done.bytes_read
        captured.packs |= done.packs
        captured.problems += done.summary.problems
        if done.is_unfinished:
            captured.is_finished = False
            captured.problems.append("the time box ended before all files were read")

    def _publish(self) -> tuple[Header, str]:
        """Take the next number, and the one after it where another runner was faster."""
        captured, earlier, order = self._captured, self._earlier, self._order
        state = "partial" if captured.problems else "complete"
        if earlier.base is None and state == "complete":
            earlier.packs.release(captured.packs)
        packs_from = len(earlier.base.header.packs) if earlier.base else 0
        kept_until = order.keep_until or expires_at(
            self._started_at, earlier.previous_started_at
        )
        header = Header(
            version=0,
            backup_id="",
            sequence=0,
            run=self._run,
            state=state,
            kind="incremental" if earlier.manifests and not order.full else "full",
            started_at=stamp(self._started_at),
            completed_at=stamp(order.now()),
            expires_at=stamp(kept_until),
            bytes_stored=0,
            body_size=0,
            body_digest=b"",
            directory=(0, 0, 0),
            packs_from=packs_from,
            packs=tuple(earlier.packs.all()[packs_from:]),
            space=order.space,
        )
        previous = earlier.previous
        while True:
            sequence = self._manifest.sequence
            reference = snapshots.expected_reference(sequence, keep_until=header.expires_at)
            besides = earlier.claimed + self._writer.bytes_stored + self._journal.bytes_stored
            published = self._manifest.publish(
                order.store,
                msgspec.structs.replace(
                    header,
                    backup_id=order.backup_id or facts.backup_id(sequence, self._started_at),
                    previous=previous,
                    bytes_stored=besides + snapshots.head_size(reference),
                ),
            )
            if published is not None:
                break
            listing = Listing.of(order.store)
            with open_manifest(order.store, order.keys, name_of(listing.newest)) as newest:
                previous = newest.reference()
            self._manifest.move_to(listing.newest + 1)
        reference, header = published
        snapshots.write_head(
            order.store, order.keys, sequence=header.sequence, run=self._run, manifest=reference
        )
        return header, reference.sha256

    def _previous_part(self) -> DatabasePart | None:
        from backups.local.parts import database_part  # noqa: PLC0415 — slow to import

        for manifest in self._earlier.manifests:
            part = database_part(manifest)
            if part is not None:
                return part
        return None

    def _reader(self) -> Reader:
        newest = self._earlier.manifests[0].backup_id if self._earlier.manifests else ""
        return Reader(
            self._order.store, self._order.keys, packs=self._earlier.packs, snapshot=newest
        )

    def _note(self, digest: bytes, chunk: Chunk) -> None:
        self._journal.note(digest, chunk.piece, chunk.inner, chunk.length)

    def _is_late(self) -> bool:
        box = self._order.time_box_s
        return box is not None and time.monotonic() - self._began > box

    def _leave_journal(self) -> None:
        """What is safe by now need not be stored again; an unreachable store says so itself."""
        try:
            self._journal.write()
        except Exception as error:  # noqa: BLE001 — the first error is the one to tell
            self._order.progress(f"the journal could not be written: {error}")


def _every(count: int, progress: Callable[[str], None]) -> Callable[[int, int], None]:
    """Tell of each `count` files."""

    def tell(done: int, size_bytes: int) -> None:
        if done % count == 0 and done:
            progress(f"{done} files, {size_bytes >> 20} MiB read")

    return tell
