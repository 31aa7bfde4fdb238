"""Sealed objects of one frame: heads, journals, scrub reports."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from backups.store import frames
from backups.store.keys import SALT_BYTES, damaged

if TYPE_CHECKING:
    from backups.store.keys import Keys

_MAGIC = b"KPAXOBJ2"
SMALL_OVERHEAD = len(_MAGIC) + SALT_BYTES + frames.TAG_BYTES


def seal_small(keys: Keys, name: str, data: bytes) -> bytes:
    """An object of one frame: magic, salt, the frame."""
    salt = os.urandom(SALT_BYTES)
    cipher = keys.cipher("object", salt=salt, name=name)
    return _MAGIC + salt + frames.seal(cipher, name, 0, data)


def open_small(keys: Keys, name: str, data: bytes) -> bytes:
    """What `seal_small` sealed. Raises `DamagedError`."""
    if not data.startswith(_MAGIC):
        raise damaged(name, "it does not begin as a sealed object")
    body = data[len(_MAGIC) :]
    cipher = keys.cipher("object", salt=body[:SALT_BYTES].ljust(SALT_BYTES, b"\0"), name=name)
    return frames.unseal(cipher, name, 0, body[SALT_BYTES:])
