"""Sealed objects: what goes in comes out, and nothing else does."""

from __future__ import annotations

import io
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups.sealing import (
    FRAME_BYTES,
    HEADER_BYTES,
    TAG_BYTES,
    Sealer,
    unsealed,
)
from spaces.errors import DamagedError

KEY = bytes(range(32))
SEALED_FRAME = FRAME_BYTES + TAG_BYTES
SIZES = [0, 1, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 3 * FRAME_BYTES]


def sealed(data: bytes, *, name: str = "p/x", key: bytes = KEY, pieces: int = 1 << 18) -> bytes:
    target = io.BytesIO()
    sealer = Sealer(target, data_key=key, name=name)
    for at in range(0, len(data), pieces):
        sealer.write(data[at : at + pieces])
    written = sealer.finish()
    assert written.plain_bytes == len(data)
    assert written.size_bytes == len(target.getvalue())
    return target.getvalue()


def opened(raw: bytes, *, name: str = "p/x", key: bytes = KEY) -> bytes:
    return b"".join(unsealed(io.BytesIO(raw), data_key=key, name=name))


def frames(raw: bytes) -> list[bytes]:
    body = raw[HEADER_BYTES:]
    return [body[at : at + SEALED_FRAME] for at in range(0, len(body), SEALED_FRAME)]


@pytest.mark.parametrize("size", SIZES)
def test_what_was_sealed_comes_out(size: int) -> None:
    data = bytes(size)
    assert opened(sealed(data)) == data
    expected = HEADER_BYTES + size + TAG_BYTES * max(1, -(-size // FRAME_BYTES))
    assert len(sealed(data)) == expected


@given(st.binary(max_size=5000), st.integers(1, 700))
def test_pieces_do_not_matter(data: bytes, pieces: int) -> None:
    assert opened(sealed(data, pieces=pieces)) == data


@given(st.binary(min_size=1, max_size=300), st.data())
def test_any_change_of_one_byte_is_found(data: bytes, draw: st.DataObject) -> None:
    raw = bytearray(sealed(data))
    at = draw.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= draw.draw(st.integers(1, 255))
    with pytest.raises(DamagedError, match="p/x is damaged"):
        opened(bytes(raw))


def test_two_seals_of_the_same_bytes_have_nothing_in_common() -> None:
    one, other = sealed(b"same" * 100), sealed(b"same" * 100)
    assert one[8:] != other[8:]
    assert one[HEADER_BYTES:] != other[HEADER_BYTES:]


@pytest.mark.parametrize(
    "harm",
    [
        lambda f: [f[1], f[0], *f[2:]],
        lambda f: f[1:],
        lambda f: f[:-1],
        lambda f: [*f[:-2], f[-1]],
        lambda f: [*f, f[-1]],
        lambda f: [f[0], *f],
        lambda f: [*f[:-1], f[-1][:-1]],
        lambda f: [],
    ],
    ids=["swap", "first", "last", "middle", "again", "twice", "cut", "none"],
)
def test_moved_or_missing_frames_are_found(harm) -> None:  # noqa: ANN001 — a table of lambdas
    raw = sealed(bytes(2 * FRAME_BYTES + 17))
    assert len(frames(raw)) == 3
    with pytest.raises(DamagedError):
        opened(raw[:HEADER_BYTES] + b"".join(harm(frames(raw))))


def test_a_frame_of_another_object_does_not_fit() -> None:
    one, other = sealed(bytes(2 * FRAME_BYTES)), sealed(bytes(2 * FRAME_BYTES), name="p/y")
    mixed = one[:HEADER_BYTES] + frames(one)[0] + frames(other)[1]
    with pytest.raises(DamagedError):
        opened(mixed)


def test_a_large_object_is_sealed_in_little_memory() -> None:
    class Nowhere(io.RawIOBase):
        def write(self, data: bytes, /) -> int:  # type: ignore[override]
            return len(data)

    piece = bytes(1 << 18)
    tracemalloc.start()
    sealer = Sealer(Nowhere(), data_key=KEY, name="p/x")  # type: ignore[arg-type]
    for _ in range(256):
        sealer.write(piece)
    assert sealer.finish().plain_bytes == 64 << 20
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 << 20


def test_an_object_opens_under_its_own_name_and_key_only() -> None:
    raw = sealed(b"hello")
    with pytest.raises(DamagedError, match="p/y"):
        opened(raw, name="p/y")
    with pytest.raises(DamagedError):
        opened(raw, key=bytes(32))
