"""Seal a stream of bytes so that nobody reads it and no change of it stays unseen. No I/O of its own.

An object is a header of 40 bytes (magic, 32 random bytes of salt) and frames of at most 1 MiB,
each AES-256-GCM. The object's key is HKDF of the space's data key, the salt and the object's name;
the nonce is the frame's number and whether it is the last; header, name, number and that flag are
authenticated with each frame. So a frame that is flipped, cut off, repeated, moved, or taken from
another object does not open. Two attempts never seal different bytes under one key and nonce,
because each draws its own salt. Layout: docs/backup-format.md.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from spaces.errors import DamagedError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC = b"KPAXSEA1"
SALT_BYTES = 32
HEADER_BYTES = len(MAGIC) + SALT_BYTES
FRAME_BYTES = 1 << 20
TAG_BYTES = 16
KEY_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was written: bytes and SHA-256 of the sealed form, bytes of the plain one."""

    size_bytes: int
    sha256: str
    plain_bytes: int


def damaged(name: str, how: str) -> DamagedError:
    """The error of an object that is not what was stored; it names the object."""
    return DamagedError(
        f"backup object {name} is damaged: {how}",
        remedy="Restore another backup: kpax backup list. What to do: docs/backup-format.md.",
        members={"object": name},
    )


def derived(data_key: bytes, *, salt: bytes, purpose: str, name: str) -> bytes:
    """32 bytes for one purpose and one object, out of the space's data key."""
    info = f"kpax backup {purpose} v1\x00{name}".encode()
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=salt, info=info).derive(
        data_key
    )


class Sealer:
    """Writes one sealed object; `finish` tells what was written. Holds two frames at most."""

    def __init__(self, target: BinaryIO, *, data_key: bytes, name: str) -> None:
        self._target = target
        self._header = MAGIC + os.urandom(SALT_BYTES)
        self._frames = _Frames(data_key, self._header, name)
        self._waiting = bytearray()
        self._number = 0
        self._plain = 0
        self._size = 0
        self._digest = hashlib.sha256()
        self._put(self._header)

    @property
    def plain_bytes(self) -> int:
        """How much was given to it so far."""
        return self._plain

    def write(self, data: bytes) -> None:
        """Take more bytes. The newest frame stays here: only the end knows that it is the last."""
        self._plain += len(data)
        self._waiting += data
        while len(self._waiting) > FRAME_BYTES:
            self._seal(bytes(self._waiting[:FRAME_BYTES]), is_last=False)
            del self._waiting[:FRAME_BYTES]

    def finish(self) -> Written:
        """Write the last frame (an empty one where there was nothing)."""
        self._seal(bytes(self._waiting), is_last=True)
        self._waiting.clear()
        return Written(
            size_bytes=self._size, sha256=self._digest.hexdigest(), plain_bytes=self._plain
        )

    def _seal(self, plain: bytes, *, is_last: bool) -> None:
        self._put(self._frames.seal(plain, self._number, is_last=is_last))
        self._number += 1

    def _put(self, data: bytes) -> None:
        self._target.write(data)
        self._digest.update(data)
        self._size += len(data)


def unsealed(source: BinaryIO, *, data_key: bytes, name: str) -> Iterator[bytes]:
    """The plain bytes, frame by frame, each authenticated before it is given out.

    Raises `DamagedError`, which names the object; a missing end is found when it is reached.
    """
    header = source.read(HEADER_BYTES)
    if len(header) != HEADER_BYTES or not header.startswith(MAGIC):
        raise damaged(name, "it does not begin as a sealed object")
    frames = _Frames(data_key, header, name)
    sealed = source.read(FRAME_BYTES + TAG_BYTES)
    number = 0
    while True:
        following = source.read(FRAME_BYTES + TAG_BYTES)
        yield frames.unseal(sealed, number, is_last=not following)
        if not following:
            return
        sealed = following
        number += 1


class _Frames:
    """Key, nonces and authenticated data of one object's frames."""

    def __init__(self, data_key: bytes, header: bytes, name: str) -> None:
        salt = header[len(MAGIC) :]
        self._cipher = AESGCM(derived(data_key, salt=salt, purpose="object", name=name))
        self._bound_to = header + name.encode() + b"\x00"
        self._name = name

    def seal(self, plain: bytes, number: int, *, is_last: bool) -> bytes:
        place = _place(number, is_last=is_last)
        return self._cipher.encrypt(place, plain, self._bound_to + place)

    def unseal(self, sealed: bytes, number: int, *, is_last: bool) -> bytes:
        place = _place(number, is_last=is_last)
        if len(sealed) < TAG_BYTES:
            raise damaged(self._name, f"frame {number} is cut off")
        try:
            return self._cipher.decrypt(place, sealed, self._bound_to + place)
        except InvalidTag as error:
            raise damaged(self._name, f"frame {number} is not what was stored") from error


def _place(number: int, *, is_last: bool) -> bytes:
    """12 bytes: the frame's number, and a one at the end of the last frame."""
    return number.to_bytes(11, "big") + bytes([is_last])
