"""One frame: some bytes, compressed, then sealed. No I/O.

A frame is stored as it is, compressed by itself, or compressed against earlier bytes (its prefix).
Decompressing against the wrong prefix yields other bytes without an error, so whoever keeps a
frame keeps a digest of its plain bytes too and compares.
"""

from __future__ import annotations

import threading
from enum import IntEnum
from typing import TYPE_CHECKING

from backports import zstd
from cryptography.exceptions import InvalidTag

from backups.store.keys import damaged

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PLAIN_LIMIT = 8 << 20
TAG_BYTES = 16
LEVEL = 2
_PREFIX_MINIMUM = 8  # zstd takes no shorter dictionary
_local = threading.local()


class Coding(IntEnum):
    """How the plain bytes of a frame are kept."""

    STORED = 0
    ZSTD = 1
    PREFIX = 2


def encode(plain: bytes, *, prefix: bytes | None = None) -> tuple[Coding, bytes]:
    """The smallest of the three forms; a prefix is used only where it halves the size."""
    if len(plain) > PLAIN_LIMIT:
        raise ValueError(f"a frame holds at most {PLAIN_LIMIT} bytes, not {len(plain)}")
    if prefix is not None and len(prefix) >= _PREFIX_MINIMUM and plain:
        delta = _against(plain, prefix)
        # A delta this small needs no second opinion, and most are: half of the work is saved.
        if len(delta) * 40 <= len(plain):
            return Coding.PREFIX, delta
        alone = compress(plain)
        if len(delta) * 2 < min(len(alone), len(plain)):
            return Coding.PREFIX, delta
    else:
        alone = compress(plain)
    if len(alone) < len(plain):
        return Coding.ZSTD, alone
    return Coding.STORED, plain


def compress(plain: bytes) -> bytes:
    """Compressed by itself, whether that is shorter or not."""
    compressor: zstd.ZstdCompressor | None = getattr(_local, "compressor", None)
    if compressor is None:
        compressor = zstd.ZstdCompressor(
            options={zstd.CompressionParameter.compression_level: LEVEL}
        )
        _local.compressor = compressor
    return compressor.compress(plain, mode=compressor.FLUSH_FRAME)


def decode(coding: int, data: bytes, *, prefix: bytes | None = None) -> bytes:
    """The plain bytes. Raises `ValueError` where these bytes are no such frame."""
    if coding == Coding.STORED:
        return data
    try:
        if coding == Coding.PREFIX:
            if prefix is None:
                raise ValueError("its prefix is not given")
            dictionary = zstd.ZstdDict(prefix, is_raw=True).as_prefix
            opener = zstd.ZstdDecompressor(zstd_dict=dictionary)
        elif coding == Coding.ZSTD:
            opener = zstd.ZstdDecompressor()
        else:
            raise ValueError(f"coding {coding} is not known")
        plain = opener.decompress(data, max_length=PLAIN_LIMIT + 1)
    except zstd.ZstdError as error:
        raise ValueError("it does not decompress") from error
    if not opener.eof or opener.unused_data or len(plain) > PLAIN_LIMIT:
        raise ValueError("it does not end where it should")
    return plain


def seal(cipher: AESGCM, name: str, number: int, data: bytes) -> bytes:
    """A sealed frame: ciphertext and tag, bound to the object's name and its place in it."""
    return cipher.encrypt(number.to_bytes(12, "big"), data, name.encode())


def unseal(cipher: AESGCM, name: str, number: int, sealed: bytes) -> bytes:
    """What was sealed. Raises `DamagedError`."""
    try:
        return cipher.decrypt(number.to_bytes(12, "big"), sealed, name.encode())
    except (InvalidTag, ValueError) as error:
        raise damaged(name, f"frame {number} is not what was stored") from error


def _against(plain: bytes, prefix: bytes) -> bytes:
    # Without long matching over a window of both, the delta degenerates to the full size.
    bits = max(10, (len(plain) + len(prefix)).bit_length())
    return zstd.compress(
        plain,
        options={
            zstd.CompressionParameter.compression_level: LEVEL,
            zstd.CompressionParameter.window_log: bits,
            zstd.CompressionParameter.enable_long_distance_matching: 1,
            # A reader without BLAKE3 finds a wrong prefix by zstd's own checksum.
            zstd.CompressionParameter.checksum_flag: 1,
        },
        zstd_dict=zstd.ZstdDict(prefix, is_raw=True).as_prefix,
    )
