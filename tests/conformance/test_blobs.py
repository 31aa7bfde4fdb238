"""Blobs are created once, read back byte for byte, and listed in name order."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import pytest

from spaces import telemetry
from spaces.adapters.blobs import AzureBlobs
from spaces.errors import ConflictError, NotFoundError
from tests.fakes import FakeBlobs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from spaces.adapters.wire import Wire
    from spaces.ports import Blobs
    from tests.conformance.parts import Parts


@pytest.fixture(params=["fake", pytest.param("azurite", marks=pytest.mark.stack)])
async def blobs(request: pytest.FixtureRequest, wire: Wire) -> AsyncIterator[Blobs]:
    if request.param == "fake":
        yield FakeBlobs()
        return
    account = await asyncio.to_thread(_connection, request.getfixturevalue("parts"))
    adapter = AzureBlobs(wire, connection=account)
    yield adapter
    await adapter.close()


@pytest.fixture
async def azurite(parts: Parts, wire: Wire) -> AsyncIterator[AzureBlobs]:
    adapter = AzureBlobs(wire, connection=await asyncio.to_thread(_connection, parts))
    yield adapter
    await adapter.close()


def _connection(parts: Parts) -> str:
    return parts.account("conformance").connection_string


async def test_bytes_come_back_as_they_were_stored(blobs: Blobs, unique: str) -> None:
    data = bytes(range(256)) * 300
    await blobs.ensure_container(unique)
    etag = await blobs.create(
        unique, "a/b c.bin", data, content_type="image/png", metadata={"day": "2026-11-23"}
    )
    assert await blobs.read(unique, "a/b c.bin") == data
    info = await blobs.info(unique, "a/b c.bin")
    assert info is not None
    assert (info.name, info.size, info.content_type) == ("a/b c.bin", len(data), "image/png")
    assert info.etag == etag
    assert info.metadata["day"] == "2026-11-23"
    assert info.metadata["sha256"] == hashlib.sha256(data).hexdigest()


async def test_an_empty_blob_is_a_blob(blobs: Blobs, unique: str, tmp_path: Path) -> None:
    await blobs.ensure_container(unique)
    await blobs.create(unique, "empty", b"")
    await blobs.create(unique, "empty", b"")
    assert await blobs.read(unique, "empty") == b""
    await blobs.download(unique, "empty", tmp_path / "empty")
    assert (tmp_path / "empty").read_bytes() == b""


async def test_a_file_goes_up_and_comes_down(blobs: Blobs, unique: str, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(bytes(range(251)) * 9000)
    await blobs.ensure_container(unique)
    await blobs.create(unique, "file", source)
    await blobs.download(unique, "file", target)
    assert target.read_bytes() == source.read_bytes()


async def test_a_name_that_is_taken_by_other_bytes_is_a_conflict(
    blobs: Blobs, unique: str
) -> None:
    await blobs.ensure_container(unique)
    await blobs.create(unique, "name", b"first")
    with pytest.raises(ConflictError):
        await blobs.create(unique, "name", b"other")
    with pytest.raises(ConflictError):
        await blobs.create(unique, "name", b"first and more")
    assert await blobs.read(unique, "name") == b"first"


async def test_the_same_bytes_again_count_as_done(
    blobs: Blobs, unique: str, tmp_path: Path
) -> None:
    await blobs.ensure_container(unique)
    etag = await blobs.create(unique, "name", b"bytes")
    assert await blobs.create(unique, "name", b"bytes") == etag
    again = tmp_path / "again"
    again.write_bytes(b"bytes")
    assert await blobs.create(unique, "name", again) == etag


async def test_one_of_two_racing_creators_wins(blobs: Blobs, unique: str) -> None:
    await blobs.ensure_container(unique)
    results = await asyncio.gather(
        *(blobs.create(unique, "name", bytes([n]) * 1000) for n in range(4)),
        return_exceptions=True,
    )
    won = [n for n, result in enumerate(results) if isinstance(result, str)]
    assert len(won) == 1
    assert sum(isinstance(result, ConflictError) for result in results) == 3
    assert await blobs.read(unique, "name") == bytes(won) * 1000


async def test_a_listing_is_in_name_order_and_below_its_prefix(
    blobs: Blobs, unique: str
) -> None:
    names = ["a", "k/1", "s/0001-a", "s/0002-b", "s/0010-c", "sa", "Z"]
    await blobs.ensure_container(unique)
    for name in reversed(names):
        await blobs.create(unique, name, name.encode(), metadata={"n": name[:1]})
    found = [info async for info in blobs.list(unique)]
    assert [info.name for info in found] == sorted(names)
    below = [info async for info in blobs.list(unique, prefix="s/")]
    assert [(i.name, i.size, i.metadata["n"]) for i in below] == [
        ("s/0001-a", 8, "s"),
        ("s/0002-b", 8, "s"),
        ("s/0010-c", 8, "s"),
    ]
    for info in below:
        assert await blobs.info(unique, info.name) == info


async def test_what_is_missing_is_told_as_missing(
    blobs: Blobs, unique: str, tmp_path: Path
) -> None:
    assert [info async for info in blobs.list(unique)] == []
    assert await blobs.info(unique, "name") is None
    with pytest.raises(NotFoundError):
        await blobs.read(unique, "name")
    with pytest.raises(NotFoundError):
        await blobs.create(unique, "name", b"")
    await blobs.ensure_container(unique)
    assert [info async for info in blobs.list(unique)] == []
    with pytest.raises(NotFoundError):
        await blobs.read(unique, "name")
    with pytest.raises(NotFoundError):
        await blobs.download(unique, "name", tmp_path / "x")


async def test_deleting_and_making_may_be_repeated(blobs: Blobs, unique: str) -> None:
    await blobs.delete(unique, "name")
    await blobs.delete_container(unique)
    await blobs.ensure_container(unique)
    await blobs.create(unique, "name", b"1")
    await blobs.ensure_container(unique)
    assert await blobs.read(unique, "name") == b"1"
    await blobs.delete(unique, "name")
    await blobs.delete(unique, "name")
    assert await blobs.info(unique, "name") is None
    await blobs.create(unique, "name", b"2")
    await blobs.delete_container(unique)
    await blobs.delete_container(unique)
    assert await blobs.info(unique, "name") is None


@pytest.mark.stack
async def test_a_large_file_goes_up_in_blocks_and_is_still_created_only_once(
    azurite: AzureBlobs, unique: str, tmp_path: Path
) -> None:
    source, other = tmp_path / "source", tmp_path / "other"
    size = 24 * 2**20 + 5
    source.write_bytes(b"k" * size)
    other.write_bytes(b"k" * (size - 1) + b"x")
    await azurite.ensure_container(unique)
    before = telemetry.counts()[telemetry.BLOB_CALLS]
    etag = await azurite.create(unique, "large", source)
    assert telemetry.counts()[telemetry.BLOB_CALLS] - before == 5  # four blocks and their list
    assert await azurite.create(unique, "large", source) == etag
    with pytest.raises(ConflictError):
        await azurite.create(unique, "large", other)
    await azurite.download(unique, "large", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == source.read_bytes()


@pytest.mark.stack
async def test_bytes_that_somebody_else_stored_are_compared_by_reading_them(
    azurite: AzureBlobs, unique: str
) -> None:
    await azurite.ensure_container(unique)
    client = azurite._service.get_blob_client(unique, "theirs")
    await client.upload_blob(b"bytes")
    info = await azurite.info(unique, "theirs")
    assert info is not None
    assert await azurite.create(unique, "theirs", b"bytes") == info.etag
    with pytest.raises(ConflictError):
        await azurite.create(unique, "theirs", b"BYTES")
