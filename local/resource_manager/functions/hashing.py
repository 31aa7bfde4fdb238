"""The 64-bit hash under `uniqueString()`: two 32-bit lanes of the Murmur family.

Names computed by `uniqueString` must be the same here as on Azure. Constants are MurmurHash3's
(public domain); test vectors come from published templates' outputs.
"""

from __future__ import annotations

_MASK = 0xFFFF_FFFF
_C1, _C2 = 0x239B961B, 0xAB0E9789


def murmur64(data: bytes) -> int:
    """An unsigned 64-bit number; seed 0."""
    h1 = h2 = 0
    blocks = len(data) // 8
    for at in range(0, blocks * 8, 8):
        k1 = int.from_bytes(data[at : at + 4], "little")
        k2 = int.from_bytes(data[at + 4 : at + 8], "little")
        h1 = (_rotated(h1 ^ _first(k1), 19) + h2) & _MASK
        h1 = (h1 * 5 + 0x561CCD1B) & _MASK
        h2 = (_rotated(h2 ^ _second(k2), 13) + h1) & _MASK
        h2 = (h2 * 5 + 0x0BCAA747) & _MASK
    tail = data[blocks * 8 :]
    h1 ^= _first(int.from_bytes(tail[:4], "little"))
    h2 ^= _second(int.from_bytes(tail[4:], "little"))
    h1 ^= len(data)
    h2 ^= len(data)
    h1 = (h1 + h2) & _MASK
    h2 = (h2 + h1) & _MASK
    h1, h2 = _stirred(h1), _stirred(h2)
    h1 = (h1 + h2) & _MASK
    h2 = (h2 + h1) & _MASK
    return h2 << 32 | h1


def _first(k: int) -> int:
    return _rotated(k * _C1 & _MASK, 15) * _C2 & _MASK


def _second(k: int) -> int:
    # The published algorithm multiplies the second lane by the second constant first, and then
    # by the first one again, where MurmurHash3 goes on to the third.
    return _rotated(k * _C2 & _MASK, 17) * _C1 & _MASK


def _rotated(value: int, by: int) -> int:
    return (value << by | value >> (32 - by)) & _MASK


def _stirred(h: int) -> int:
    h = (h ^ h >> 16) * 0x85EBCA6B & _MASK
    h = (h ^ h >> 13) * 0xC2B2AE35 & _MASK
    return h ^ h >> 16
