"""What a backup holds: the manifest that makes it exist, and the sealed contents it names. Pure.

The manifest stands in clear, so that housekeeping needs no key: ids, times, object names, sizes
and hashes, never a name or a value of a customer's. It is authenticated under the space's data
key. Tables, rows, attachments and settings stand in the contents, a sealed object like the others.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime
from typing import TYPE_CHECKING, Literal

import msgspec

from backups.sealing import damaged, derived

if TYPE_CHECKING:
    from spaces.model import BackupId

MANIFESTS = "s/"
PACKS = "p/"
_MAC_HEX = 64


class ObjectRef(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sealed object as it must be found: name, size, SHA-256 of its sealed bytes."""

    name: str
    size_bytes: int
    sha256: str


class Previous(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The manifest before this one: before `expires_at` its absence is damage."""

    backup_id: str
    sha256: str
    expires_at: datetime


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One backup. `contents` is among `objects`; the sums are for people and alarms."""

    version: Literal[1] = 1
    space_id: str
    backup_id: str
    operation_id: str
    cluster: str
    azure_region: str
    backup_region: str
    started_at: datetime
    completed_at: datetime
    expires_at: datetime
    server_version: str
    contents: ObjectRef
    objects: list[ObjectRef]
    previous: Previous | None
    tables: int
    rows: int
    attachments: int
    attachment_bytes: int

    @property
    def bytes_stored(self) -> int:
        """Bytes of all objects; the manifest's own few hundred are left out."""
        return sum(ref.size_bytes for ref in self.objects)


class TableContents(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table's proof: its columns with types, how many rows, and a hash over all of them."""

    name: str
    columns: str
    rows: int
    sha256: str


class SequenceContents(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds of a sequence: sequences follow no snapshot, so the dump took one value between."""

    name: str
    lowest: int
    highest: int
    called: list[bool]


class DatabaseContents(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was in the database at one moment; `census` counts its other objects by kind."""

    server_version: str
    encoding: str
    tables: list[TableContents]
    sequences: list[SequenceContents]
    census: dict[str, int]


class Attachment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of the space, and the number of the pack that holds it after those before it."""

    name: str
    size_bytes: int
    sha256: str
    content_type: str | None
    metadata: dict[str, str]
    pack: int


class Contents(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that a restore needs and a proof compares with. `settings` holds no password."""

    version: Literal[1] = 1
    space_id: str
    backup_id: str
    dump: ObjectRef
    packs: list[ObjectRef]
    database: DatabaseContents
    attachments: list[Attachment]
    settings: dict[str, object]


def manifest_name(backup_id: BackupId | str) -> str:
    """The object name of a backup's manifest; names sort as the backups were made."""
    return f"{MANIFESTS}{backup_id}"


def encoded(manifest: Manifest, data_key: bytes) -> bytes:
    """The manifest as stored: JSON, a line break, its authentication code in hex."""
    document = msgspec.json.encode(manifest)
    return document + b"\n" + _code(document, manifest_name(manifest.backup_id), data_key)


def decoded(raw: bytes, *, name: str, data_key: bytes) -> Manifest:
    """The manifest of that name; raises `DamagedError` where one bit is not as it was written."""
    document, _, code = raw.rpartition(b"\n")
    if len(code) != _MAC_HEX or not hmac.compare_digest(code, _code(document, name, data_key)):
        raise damaged(name, "its authentication code does not fit")
    try:
        manifest = msgspec.json.decode(document, type=Manifest)
    except msgspec.MsgspecError as error:
        raise damaged(name, f"it cannot be read by this release ({error})") from error
    if manifest_name(manifest.backup_id) != name:
        raise damaged(name, "it tells of another backup")
    return manifest


def digest(raw: bytes) -> str:
    """The hash by which the next manifest names this one."""
    return hashlib.sha256(raw).hexdigest()


def _code(document: bytes, name: str, data_key: bytes) -> bytes:
    key = derived(data_key, salt=b"", purpose="manifest", name=name)
    return hmac.digest(key, document, "sha256").hex().encode()
