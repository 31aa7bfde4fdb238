"""What a storage service answers on a bad day, and what the unmodified clients make of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from spaces import telemetry
from spaces.adapters.blobs import AzureBlobs
from spaces.adapters.tables import AzureTables
from spaces.adapters.wire import Wire, is_loopback, seconds
from spaces.errors import (
    DeniedError,
    InvalidError,
    KpaxError,
    ThrottledError,
    TransientError,
    UnknownError,
)
from spaces.ports import Insert, Put
from tests.conformance.scripted import Reply, Scripted, scripted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BUSY = {"odata.error": {"code": "ServerBusy", "message": {"lang": "en", "value": "busy"}}}
ONE = [Insert("r", {"n": 1})]
TWO = [Insert("r", {"n": 1}), Put("s", {})]


def _connection(url: str) -> str:
    return (
        "DefaultEndpointsProtocol=http;AccountName=kxtest;AccountKey=a2V5;"
        f"BlobEndpoint={url}/kxtest;TableEndpoint={url}/kxtest;"
    )


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    async with scripted() as running:
        yield running


@pytest.fixture
async def tables(server: Scripted, wire: Wire) -> AsyncIterator[AzureTables]:
    adapter = AzureTables(wire, connection=_connection(server.url))
    yield adapter
    await adapter.close()


@pytest.mark.parametrize(
    ("reply", "written", "read"),
    [
        (Reply(status=429, headers={"Retry-After": "7"}), ThrottledError, ThrottledError),
        (Reply(status=503, body=BUSY), ThrottledError, ThrottledError),
        (Reply(status=503, headers={"Retry-After": "7"}), ThrottledError, ThrottledError),
        (Reply(status=500, text="<html>"), UnknownError, TransientError),
        (Reply(status=504), UnknownError, TransientError),
        (Reply(status=408), UnknownError, TransientError),
        (Reply(status=403), DeniedError, DeniedError),
        (Reply(status=400), InvalidError, InvalidError),
        (Reply(status=413), InvalidError, InvalidError),
        (Reply(cut=True), UnknownError, TransientError),
    ],
    ids=["429", "busy", "503", "500", "504", "408", "403", "400", "413", "cut"],
)
async def test_each_answer_of_a_table_has_one_meaning(
    tables: AzureTables,
    server: Scripted,
    reply: Reply,
    written: type[KpaxError],
    read: type[KpaxError],
) -> None:
    server.will(reply)
    for writes in (ONE, TWO):
        with pytest.raises(KpaxError) as refusal:
            await tables.commit("rows", "p", writes)
        assert type(refusal.value) is written
    for call in (tables.get("rows", "p", "r"), tables.query("rows", partition="p")):
        with pytest.raises(KpaxError) as refusal:
            await call
        assert type(refusal.value) is read
    if reply.headers and isinstance(refusal.value, ThrottledError):
        assert refusal.value.retry_after_s == 7


async def test_the_client_tries_only_once_and_every_try_is_counted(
    tables: AzureTables, server: Scripted
) -> None:
    server.will(Reply(status=503, body=BUSY))
    before = telemetry.counts()[telemetry.TABLE_TRANSACTIONS]
    with pytest.raises(ThrottledError):
        await tables.commit("rows", "p", TWO)
    with pytest.raises(ThrottledError):
        await tables.get("rows", "p", "r")
    assert len(server.asked) == 2
    assert telemetry.counts()[telemetry.TABLE_TRANSACTIONS] - before == 2


async def test_making_a_table_costs_its_first_write_and_no_other(
    tables: AzureTables, server: Scripted
) -> None:
    missing = {
        "odata.error": {"code": "TableNotFound", "message": {"lang": "en", "value": "no table"}}
    }
    server.will(
        Reply(status=404, body=missing),
        Reply(status=201, body={"TableName": "rows"}),
        Reply(status=204, headers={"etag": 'W/"1"'}),
    )
    for key in ("a", "b", "c"):
        await tables.commit("rows", "p", [Insert(key, {})])
    assert [path.rpartition("/")[2] for _, path in server.asked] == [
        "rows",
        "Tables",
        "rows",
        "rows",
        "rows",
    ]


async def test_a_table_service_that_does_not_answer_was_sent_nothing(
    wire: Wire, unused_port: int
) -> None:
    tables = AzureTables(wire, connection=_connection(f"http://127.0.0.1:{unused_port}"))
    for writes in (ONE, TWO):
        with pytest.raises(TransientError):
            await tables.commit("rows", "p", writes)
    with pytest.raises(TransientError):
        await tables.get("rows", "p", "r")
    await tables.close()


@pytest.fixture
async def blobs(
    server: Scripted, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AzureBlobs]:
    async def at_once(_self: object, _settings: object, *_: object) -> None:
        """Wait for nothing between two tries."""

    monkeypatch.setattr(
        "azure.storage.blob._shared.policies_async.AsyncStorageRetryPolicy.sleep", at_once
    )
    adapter = AzureBlobs(wire, connection=_connection(server.url))
    yield adapter
    await adapter.close()


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(status=503, headers={"x-ms-error-code": "ServerBusy"}), ThrottledError),
        (Reply(status=500), TransientError),
        (Reply(status=403), DeniedError),
        (Reply(cut=True), TransientError),
        (
            Reply(status=409, headers={"x-ms-error-code": "ContainerBeingDeleted"}),
            TransientError,
        ),
    ],
    ids=["busy", "500", "403", "cut", "being deleted"],
)
async def test_each_answer_of_a_blob_has_one_meaning(
    blobs: AzureBlobs, server: Scripted, reply: Reply, expected: type[KpaxError]
) -> None:
    server.will(reply)
    with pytest.raises(KpaxError) as refusal:
        await blobs.ensure_container("c")
    assert type(refusal.value) is expected


async def test_a_blob_whose_answer_was_lost_is_found_to_be_there(
    blobs: AzureBlobs, server: Scripted
) -> None:
    stored: dict[str, Any] = {}

    def respond(method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        if method == "PUT" and not stored:
            stored.update(body=body, sha256=headers["x-ms-meta-sha256"])
            assert headers["if-none-match"] == "*"
            return Reply(cut=True)
        if method == "PUT":
            return Reply(status=409, headers={"x-ms-error-code": "BlobAlreadyExists"})
        return Reply(
            headers={
                "ETag": '"0x1"',
                "x-ms-meta-sha256": stored["sha256"],
                "Last-Modified": "Mon, 23 Nov 2026 10:00:00 GMT",
            },
            text=stored["body"].decode(),
        )

    server.respond = respond
    assert await blobs.create("c", "b", b"bytes") == "0x1"
    assert stored["body"] == b"bytes"


async def test_a_wire_belongs_to_the_loop_that_opened_it(wire: Wire) -> None:
    import asyncio  # noqa: PLC0415 — a second loop, in a thread of its own

    wire.opened()

    async def elsewhere() -> None:
        wire.opened()

    with pytest.raises(RuntimeError, match="another event loop"):
        await asyncio.to_thread(asyncio.run, elsewhere())
    await wire.close()
    assert wire.opened() is wire.opened()


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:8080/x", True),
        ("http://localhost/x", True),
        ("http://[::1]:1/", True),
        ("https://management.azure.com", False),
        ("http://127.0.0.1.example.com/", False),
        ("http://example.com/?127.0.0.1", False),
    ],
)
def test_only_this_machine_is_loopback(url: str, here: bool) -> None:
    assert is_loopback(url) is here


def test_a_retry_after_in_words_is_none() -> None:
    assert (seconds("3"), seconds("0.5"), seconds(None)) == (3.0, 0.5, None)
    assert seconds("Mon, 23 Nov 2026 10:00:00 GMT") is None
