"""Everything that is derived from a space's data key, and the value that tells a wrong key.

Each object draws a salt of 32 bytes; its key is HKDF-SHA256 of the data key under that salt, its
purpose and its name. Two attempts never seal different bytes under one key and nonce, whoever
wins the name. Hashes are keyed, so that nobody confirms a guess of what is stored.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import TYPE_CHECKING

import blake3
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from spaces.errors import DamagedError, InvalidError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

KEY_BYTES = 32
SALT_BYTES = 32
DIGEST_BYTES = 16

CHECK_NAME = "k/check"
_CHECK_MAGIC = b"KPAXKCV2"
_CHECK_BYTES = len(_CHECK_MAGIC) + SALT_BYTES + 32 + 32


def digest(key: bytes, data: bytes | memoryview) -> bytes:
    """The keyed BLAKE3 of some bytes, 16 bytes long."""
    return blake3.blake3(data, key=key).digest(DIGEST_BYTES)


def damaged(
    name: str, how: str, *, snapshots: Sequence[str] = (), affects: Sequence[str] = ()
) -> DamagedError:
    """The error of an object that is not what was stored: which, in which snapshots, what is lost."""
    within = f" of snapshot {', '.join(snapshots)}" if snapshots else ""
    lost = f"; affected: {', '.join(affects)}" if affects else ""
    return DamagedError(
        f"backup object {name}{within} is damaged: {how}{lost}",
        remedy="Restore another snapshot, or what is whole of this one: docs/backup-format.md.",
        members={
            "object": name,
            "problem": how,
            "snapshots": list(snapshots),
            "affects": list(affects),
        },
    )


class Keys:
    """What a space's data key opens."""

    def __init__(self, data_key: bytes) -> None:
        if len(data_key) != KEY_BYTES:
            raise InvalidError(f"a data key has {KEY_BYTES} bytes, this one {len(data_key)}")
        self._data_key = data_key
        self.digest_key = self.derived("digest", salt=b"")

    def derived(self, purpose: str, *, salt: bytes, name: str = "") -> bytes:
        """32 bytes for one purpose and one object."""
        info = f"kpax backup {purpose} v2\x00{name}".encode()
        return HKDF(
            algorithm=hashes.SHA256(), length=KEY_BYTES, salt=salt or None, info=info
        ).derive(self._data_key)

    def cipher(self, purpose: str, *, salt: bytes, name: str) -> AESGCM:
        """The cipher of one object."""
        return AESGCM(self.derived(purpose, salt=salt, name=name))

    def digest(self, data: bytes | memoryview) -> bytes:
        """Keyed hash that names content: 16 bytes."""
        return digest(self.digest_key, data)

    def hasher(self) -> blake3.blake3:
        """The same hash, fed piece by piece; take `digest(DIGEST_BYTES)` of it."""
        return blake3.blake3(key=self.digest_key)

    def check_value(self) -> bytes:
        """What `k/check` holds: magic, salt, a value only this key gives, SHA-256 of the three."""
        salt = os.urandom(SALT_BYTES)
        said = _CHECK_MAGIC + salt + self.derived("key check", salt=salt)
        return said + hashlib.sha256(said).digest()

    def opens(self, check: bytes) -> bool:
        """Whether the store's key-check value is this key's. Raises `DamagedError`."""
        said, checksum = check[:-32], check[-32:]
        if (
            len(check) != _CHECK_BYTES
            or not check.startswith(_CHECK_MAGIC)
            or hashlib.sha256(said).digest() != checksum
        ):
            raise damaged(CHECK_NAME, "it is not a key-check value")
        salt, value = said[len(_CHECK_MAGIC) :][:SALT_BYTES], said[-32:]
        return hmac.compare_digest(value, self.derived("key check", salt=salt))


def read_key(path: Path) -> Keys:
    """The data key that lies in a file: 32 raw bytes."""
    try:
        return Keys(path.read_bytes())
    except OSError as error:
        raise InvalidError(
            f"the key file {path} cannot be read: {error.strerror}",
            remedy="Make one with: python -m backups.local keygen --key-file FILE.",
        ) from error
