"""Manifests: what a snapshot holds, under a header that is clear but authenticated.

A manifest is an object of its own under `s/`, named by its number in the chain. The header can be
read without a key: what it refers to, until when, and which manifest came before. The body is a
list of sections (the run's facts, the database's part, pages of files), each sealed. A section
equal to the one of the weekly base is not stored again, and a changed one only as its difference:
a manifest needs two reads at most, whatever its age.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import tempfile
import threading
from typing import TYPE_CHECKING, BinaryIO, Self, cast

import msgspec

from backups.store import frames
from backups.store.keys import DIGEST_BYTES, SALT_BYTES, damaged
from backups.store.packs import PackList, PackRef
from spaces.errors import DamagedError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backups.store.keys import Keys
    from backups.store.objects import ObjectStore

MAGIC = b"KPAXMAN2"
VERSION = 2
_LENGTH_BYTES = 4
_MAC_BYTES = 32
_FIXED_BYTES = len(MAGIC) + _LENGTH_BYTES
_HEADER_LIMIT = 64 << 20
_CHUNK = 1 << 20
_IN_MEMORY = 1 << 20
_PART = 4 << 20


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """Another manifest: its name, SHA-256 of its bytes, and until when it has to exist."""

    name: str
    sha256: str
    keep_until: str


class Header(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What can be read without a key. Times are RFC 3339 in UTC.

    `packs` is this manifest's part of the list of packs: it replaces places of the base's list
    from `packs_from` on. Packs are kept as long as the manifest is, and so is the base.
    """

    version: int
    backup_id: str
    sequence: int
    run: str
    state: str
    kind: str
    started_at: str
    completed_at: str
    expires_at: str
    bytes_stored: int
    body_size: int
    body_digest: bytes
    directory: tuple[int, int, int]
    base: Reference | None = None
    previous: Reference | None = None
    packs_from: int = 0
    packs: tuple[PackRef | None, ...] = ()
    space: str = ""


class _Place(msgspec.Struct, frozen=True, array_like=True):
    """Where a section's bytes are: own frames (offset, size, coding), or the base's section."""

    name: str
    digest: bytes = b""
    frame: int = 0
    offset: int = 0
    size: int = 0
    coding: int = -1  # -1: equal to the base's section of that name, which has its digest


def name_of(sequence: int) -> str:
    """The manifest's name: one per number, so that of two runners one sees the other."""
    return f"s/{sequence:08d}"


class Manifest:
    """A manifest that is open for reading, with its base; close it."""

    def __init__(
        self, name: str, header: Header, body: BinaryIO, keys: Keys, base: Manifest | None
    ) -> None:
        self.name = name
        self.header = header
        self.base = base
        self.sha256 = ""
        self._keys = keys
        self._body = body
        self._reading = threading.Lock()
        self._start = body.tell()
        body.seek(self._start - _MAC_BYTES - SALT_BYTES)
        self._cipher = keys.cipher("manifest", salt=body.read(SALT_BYTES), name=name)
        number, offset, size = header.directory
        places = msgspec.json.decode(
            frames.decode(frames.Coding.ZSTD, self._frame(number, offset, size)),
            type=list[_Place],
        )
        self._places = {place.name: place for place in places}

    @property
    def backup_id(self) -> str:
        """The snapshot's id."""
        return self.header.backup_id

    @property
    def packs(self) -> PackList:
        """Every pack the snapshot may refer to, by index."""
        own = self.header.packs
        before = self.base.header.packs[: self.header.packs_from] if self.base else ()
        return PackList((*before, *own))

    def sections(self) -> list[str]:
        """Names of the sections, in the order they were added."""
        return list(self._places)

    def is_own(self, section: str) -> bool:
        """Whether the section differs from the base's, or there is no base."""
        return self._places[section].coding >= 0

    def has(self, section: str) -> bool:
        """Whether there is a section of that name."""
        return section in self._places

    def digest_of(self, section: str) -> bytes:
        """The keyed digest of a section's bytes."""
        place = self._places[section]
        if place.coding < 0 and self.base is not None and self.base.has(section):
            return self.base.digest_of(section)
        return place.digest

    def read(self, section: str) -> bytes:
        """The bytes of a section. Raises `DamagedError`."""
        place = self._places[section]
        if place.coding < 0:
            return self._of_base(section)
        prefix = self._of_base(section) if place.coding == frames.Coding.PREFIX else None
        try:
            data = self._frame(place.frame, place.offset, place.size)
            plain = frames.decode(place.coding, data, prefix=prefix)
        except ValueError as error:
            raise self.damaged(f"section {section}: {error}") from error
        if not hmac.compare_digest(self._keys.digest(plain), place.digest):
            raise self.damaged(f"section {section} is not what was stored")
        return plain

    def damaged(self, how: str) -> DamagedError:
        """The error of this manifest."""
        return damaged(
            self.name, how, snapshots=[self.backup_id], affects=["the whole snapshot"]
        )

    def reference(self) -> Reference:
        """How another manifest refers to this one."""
        return Reference(name=self.name, sha256=self.sha256, keep_until=self.header.expires_at)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the object, and its base's."""
        self._body.close()
        if self.base is not None:
            self.base.close()

    def _of_base(self, section: str) -> bytes:
        if self.base is None or not self.base.has(section):
            raise self.damaged(f"section {section} builds on a base that lacks it")
        return self.base.read(section)

    def _frame(self, number: int, offset: int, size: int) -> bytes:
        with self._reading:
            self._body.seek(self._start + offset)
            sealed = self._body.read(size)
        return frames.unseal(self._cipher, self.name, number, sealed)


class ManifestWriter:
    """Takes sections one by one, holding none of them; `publish` makes the snapshot exist."""

    def __init__(self, keys: Keys, *, sequence: int, base: Manifest | None) -> None:
        self.sequence = sequence
        self.base = base
        self._keys = keys
        self._places: list[_Place] = []
        self._renew()

    @property
    def name(self) -> str:
        """The name the manifest will have."""
        return name_of(self.sequence)

    def add(self, section: str, data: bytes) -> None:
        """Add a section of at most 8 MiB."""
        digest = self._keys.digest(data)
        prefix = None
        if self.base is not None and self.base.has(section):
            if self.base.digest_of(section) == digest:
                self._places.append(_Place(section))
                return
            prefix = self.base.read(section)
        coding, encoded = frames.encode(data, prefix=prefix)
        number = len(self._places)
        offset, size = self._seal(number, encoded)
        self._places.append(_Place(section, digest, number, offset, size, coding))

    def move_to(self, sequence: int) -> None:
        """Take another number: the one it had belongs to another runner's manifest."""
        body, cipher, name = self._body, self._cipher, self.name
        self.sequence = sequence
        self._renew()
        moved: list[_Place] = []
        for place in self._places:
            if place.coding < 0:
                moved.append(place)
                continue
            body.seek(place.offset)
            data = frames.unseal(cipher, name, place.frame, body.read(place.size))
            offset, size = self._seal(place.frame, data)
            moved.append(msgspec.structs.replace(place, offset=offset, size=size))
        self._places = moved
        body.close()

    def publish(self, store: ObjectStore, header: Header) -> tuple[Reference, Header] | None:
        """Write the object: from here on the snapshot exists. None where the number is taken.

        Of `header` the fields `version`, `sequence`, `base`, `body_size`, `body_digest` and
        `directory` are filled in here, and `bytes_stored` grows by the manifest's own size.
        """
        listing = frames.compress(msgspec.json.encode(self._places))
        place = self._seal(len(self._places), listing)
        header = msgspec.structs.replace(
            header,
            version=VERSION,
            sequence=self.sequence,
            base=self._base_reference(header.expires_at),
            body_size=self._size,
            body_digest=self._body_digest(),
            directory=(len(self._places), *place),
        )
        before = header.bytes_stored + _FIXED_BYTES + SALT_BYTES + _MAC_BYTES + self._size
        for _ in range(2):  # the sum is part of what it counts: its digits may become more
            total = before + len(_encoded(header))
            header = msgspec.structs.replace(header, bytes_stored=total)
        reference = self._store(store, header)
        return None if reference is None else (reference, header)

    def close(self) -> None:
        """Forget what was added."""
        self._body.close()

    def _store(self, store: ObjectStore, header: Header) -> Reference | None:
        said = _encoded(header)
        mac_key = self._keys.derived("manifest header", salt=self._salt, name=self.name)
        before = MAGIC + len(said).to_bytes(_LENGTH_BYTES, "big") + said + self._salt
        before += hmac.digest(mac_key, before, "sha256")
        whole = hashlib.sha256(before)
        spool = store.spool()
        spool.write_at(0, before)
        at = len(before)
        for chunk in self._chunks():
            spool.write_at(at, chunk)
            at += len(chunk)
            whole.update(chunk)
        created = store.create(self.name, spool)
        spool.close()
        if not created:
            return None
        return Reference(name=self.name, sha256=whole.hexdigest(), keep_until=header.expires_at)

    def _base_reference(self, expires_at: str) -> Reference | None:
        """The base has to exist as long as whatever builds on it."""
        if self.base is None:
            return None
        reference = self.base.reference()
        return msgspec.structs.replace(
            reference, keep_until=max(reference.keep_until, expires_at)
        )

    def _renew(self) -> None:
        self._salt = os.urandom(SALT_BYTES)
        self._cipher = self._keys.cipher("manifest", salt=self._salt, name=self.name)
        spooled = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 — see close
        self._body = cast("BinaryIO", spooled)
        self._size = 0

    def _seal(self, number: int, data: bytes) -> tuple[int, int]:
        sealed = frames.seal(self._cipher, self.name, number, data)
        offset = self._size
        self._body.seek(offset)
        self._body.write(sealed)
        self._size += len(sealed)
        return offset, len(sealed)

    def _body_digest(self) -> bytes:
        hasher = self._keys.hasher()
        for chunk in self._chunks():
            hasher.update(chunk)
        return hasher.digest(DIGEST_BYTES)

    def _chunks(self) -> Iterator[bytes]:
        self._body.seek(0)
        while chunk := self._body.read(_CHUNK):
            yield chunk


def add_long(writer: ManifestWriter, section: str, data: bytes) -> None:
    """Add bytes of any length, as the sections `section/0`, `section/1` and so on."""
    for number, start in enumerate(range(0, max(len(data), 1), _PART)):
        writer.add(f"{section}/{number}", data[start : start + _PART])


def read_long(manifest: Manifest, section: str) -> bytes | None:
    """What `add_long` added; None where nothing was."""
    parts: list[bytes] = []
    while manifest.has(name := f"{section}/{len(parts)}"):
        parts.append(manifest.read(name))
    return b"".join(parts) if parts else None


def open_manifest(
    store: ObjectStore, keys: Keys, name: str, *, expected_sha256: str | None = None
) -> Manifest:
    """Open a manifest with its base, every byte of both authenticated.

    Raises `NotFoundError` where it is not there, `DamagedError` otherwise.
    """
    body = store.open(name)
    try:
        header, sha256 = _authenticated(body, keys, name, expected_sha256)
        base = None
        if header.base is not None:
            base = _open_base(store, keys, header)
        try:
            manifest = Manifest(name, header, body, keys, base)
        except (ValueError, msgspec.MsgspecError) as error:
            raise damaged(name, f"its directory: {error}") from error
    except BaseException:
        body.close()
        raise
    manifest.sha256 = sha256
    return manifest


def authenticate(store: ObjectStore, keys: Keys, name: str) -> tuple[Header, str]:
    """The header and the SHA-256 of a manifest, every byte of which is authentic.

    Raises `NotFoundError`, `DamagedError`.
    """
    with store.open(name) as body:
        return _authenticated(body, keys, name, None)


def read_header(data: BinaryIO, name: str) -> Header:
    """The clear header, not authenticated: what housekeeping reads without a key."""
    return _decoded(_clear(data, name), name)


def _clear(data: BinaryIO, name: str) -> bytes:
    """The bytes up to the header's end."""
    before = data.read(_FIXED_BYTES)
    length = int.from_bytes(before[len(MAGIC) :], "big")
    if len(before) != _FIXED_BYTES or not before.startswith(MAGIC) or length > _HEADER_LIMIT:
        raise damaged(name, "it does not begin as a manifest")
    return before + data.read(length)


def _decoded(clear: bytes, name: str) -> Header:
    try:
        return msgspec.json.decode(clear[_FIXED_BYTES:], type=Header)
    except (ValueError, msgspec.MsgspecError) as error:
        raise damaged(name, f"its header cannot be read: {error}") from error


def _open_base(store: ObjectStore, keys: Keys, header: Header) -> Manifest:
    assert header.base is not None  # noqa: S101 — the caller looked
    try:
        base = open_manifest(store, keys, header.base.name, expected_sha256=header.base.sha256)
    except NotFoundError as error:
        raise damaged(
            header.base.name,
            "it is missing",
            snapshots=[header.backup_id],
            affects=["the whole snapshot, which builds on it"],
        ) from error
    if base.base is not None:
        raise damaged(header.base.name, "a base builds on another base")
    return base


def _authenticated(
    body: BinaryIO, keys: Keys, name: str, expected_sha256: str | None
) -> tuple[Header, str]:
    said = _clear(body, name)
    salt, mac = body.read(SALT_BYTES), body.read(_MAC_BYTES)
    key = keys.derived("manifest header", salt=salt, name=name)
    if not hmac.compare_digest(mac, hmac.digest(key, said + salt, "sha256")):
        raise damaged(name, "its header is not what was stored")
    header = _decoded(said, name)
    if header.version != VERSION or name_of(header.sequence) != name:
        raise damaged(name, "its header speaks of another manifest")
    whole = hashlib.sha256(said + salt + mac)
    hasher = keys.hasher()
    start = body.tell()
    while chunk := body.read(_CHUNK):
        hasher.update(chunk)
        whole.update(chunk)
    if (
        body.tell() - start != header.body_size
        or hasher.digest(DIGEST_BYTES) != header.body_digest
    ):
        raise damaged(
            name,
            "its body is not what was stored",
            snapshots=[header.backup_id],
            affects=["the whole snapshot"],
        )
    body.seek(start)
    sha256 = whole.hexdigest()
    if expected_sha256 is not None and sha256 != expected_sha256:
        raise damaged(name, "it is not the manifest that others refer to")
    return header, sha256


def _encoded(header: Header) -> bytes:
    return msgspec.json.encode(header)
