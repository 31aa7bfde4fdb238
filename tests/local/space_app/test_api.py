"""What a space's application answers, asked over http."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from azure.storage.blob.aio import ContainerClient

if TYPE_CHECKING:
    from tests.local.space_app.conftest import Space, World

pytestmark = pytest.mark.stack

MIB = 2**20
LIMIT = 25 * MIB
READING = {"device_id": "d", "value": 1, "unit": "m"}
ENCODED = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n'
    b"Content-Transfer-Encoding: base64\r\n\r\neA==\r\n--b--\r\n"
)
TWO_FILES = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="b"\r\n\r\ny\r\n--b--\r\n'
)


def form(
    data: bytes,
    name: str | None = "note.txt",
    kind: str | None = "text/plain",
    part: str = "file",
) -> aiohttp.FormData:
    found = aiohttp.FormData(quote_fields=False)  # as browsers send names
    found.add_field(part, data, filename=name, content_type=kind)
    return found


async def blobs(space: Space) -> dict[str, int]:
    container = ContainerClient.from_connection_string(space.connection_string, "attachments")
    async with container:
        return {blob.name: blob.size async for blob in container.list_blobs()}


async def add_device(visitor: aiohttp.ClientSession, space: Space) -> dict[str, Any]:
    body = {"name": "Pump 3", "serial": "SN-17"}
    async with visitor.post(space.url("/api/devices"), json=body) as answer:
        assert answer.status == 201
        return await answer.json()


async def test_health_tells_instance_zone_release_and_space(acme: Space) -> None:
    assert await acme.health(0) == (
        200,
        {"instance": "acme_0", "zone": "1", "release": "2026.11.1", "space_id": "s-acme"},
    )
    assert (await acme.health(1))[1]["zone"] == "2"


async def test_a_device_and_its_reading_are_listed_by_every_instance(
    acme: Space, visitor: aiohttp.ClientSession
) -> None:
    device = await add_device(visitor, acme)
    assert set(device) == {"id", "name", "serial", "created_at"}
    assert (device["name"], device["serial"]) == ("Pump 3", "SN-17")
    assert device["created_at"].endswith("Z")
    body = {
        "device_id": device["id"],
        "value": 21.5,
        "unit": "°C",
        "at": "2026-11-23T10:00:00.25+02:00",
    }
    async with visitor.post(acme.url("/api/readings", 1), json=body) as answer:
        assert answer.status == 201
        reading = await answer.json()
    assert reading == {**body, "id": reading["id"], "at": "2026-11-23T08:00:00.250000Z"}
    for number in (0, 1):
        async with visitor.get(acme.url("/api/devices", number)) as answer:
            assert answer.content_type == "application/json"
            assert device in await answer.json()
        async with visitor.get(acme.url("/api/readings", number)) as answer:
            assert reading in await answer.json()


async def test_a_reading_without_a_time_is_now_and_a_whole_number_is_a_number(
    acme: Space, visitor: aiohttp.ClientSession
) -> None:
    device = await add_device(visitor, acme)
    body = {"device_id": device["id"], "value": 21, "unit": "bar"}
    async with visitor.post(acme.url("/api/readings"), json=body) as answer:
        reading = await answer.json()
    assert reading["value"] == 21
    assert reading["at"] >= device["created_at"]


async def test_a_new_space_has_empty_lists(
    world: World, visitor: aiohttp.ClientSession
) -> None:
    space = await world.space("empty")
    for table in ("devices", "readings", "documents"):
        async with visitor.get(space.url(f"/api/{table}")) as answer:
            assert (answer.status, await answer.json()) == (200, [])


async def test_a_long_list_comes_whole_and_in_order(
    world: World, visitor: aiohttp.ClientSession
) -> None:
    space = await world.space("long")
    await world.ask(
        space.database,
        "INSERT INTO devices (id, name, serial, created_at)"
        " SELECT 'd-' || n, 'Device ' || n, 'S' || n, now() FROM generate_series(1, 1501) n",
    )
    async with visitor.get(space.url("/api/devices")) as answer:
        assert [row["id"] for row in await answer.json()] == [f"d-{n}" for n in range(1, 1502)]


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("readings", {**READING, "value": "1"}, "/value"),
        ("readings", {**READING, "value": True}, "/value"),
        ("readings", {**READING, "at": "yesterday"}, "/at"),
        ("readings", {**READING, "at": "2026-01-01T00:00:00"}, "/at"),
        ("readings", {**READING, "at": "0001-01-01T00:00:00+14:00"}, "/at"),
        ("devices", {"name": "x"}, ""),
        ("devices", {"name": "", "serial": "x"}, "/name"),
        ("devices", {"name": "  ", "serial": "x"}, "/name"),
        ("devices", {"name": "a\x00b", "serial": "x"}, "/name"),
        ("devices", {"name": "x" * 201, "serial": "x"}, "/name"),
        ("devices", {"name": 7, "serial": "x"}, "/name"),
        ("devices", {"name": "x", "serial": "x", "id": "mine"}, ""),
        ("devices", ["x"], ""),
        ("devices", "x", ""),
        ("readings", {"device_id": "unknown", "value": 1, "unit": "m"}, "/device_id"),
    ],
)  # fmt: skip
async def test_wrong_input_is_refused_with_its_place(
    acme: Space, visitor: aiohttp.ClientSession, path: str, body: object, pointer: str
) -> None:
    async with visitor.post(acme.url(f"/api/{path}"), json=body) as answer:
        assert answer.status == 400
        assert answer.content_type == "application/problem+json"
        problem = await answer.json()
    assert problem["status"] == 400
    assert problem["detail"]
    assert (problem["errors"][0]["pointer"] if pointer else "") == pointer


@pytest.mark.parametrize(
    ("data", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"", "application/json", 400),
        (b'{"name": "\xff", "serial": "x"}', "application/json", 400),
        (b'{"name": "\\ud800", "serial": "x"}', "application/json", 400),
        (b'{"device_id": "d", "value": 1e999, "unit": "x"}', "application/json", 400),
        (b'{"device_id": "d", "value": NaN, "unit": "x"}', "application/json", 400),
        (b"name=x&serial=y", "application/x-www-form-urlencoded", 415),
        (b'{"name": "' + b"x" * 70_000 + b'"}', "application/json", 413),
        (b"[" * 60_000, "application/json", 400),
    ],
)
async def test_a_body_that_is_no_json_object_is_refused(
    acme: Space, visitor: aiohttp.ClientSession, data: bytes, kind: str, status: int
) -> None:
    path = "/api/readings" if b"device_id" in data else "/api/devices"
    headers = {"Content-Type": kind}
    async with visitor.post(acme.url(path), data=data, headers=headers) as answer:
        assert answer.status == status
        assert answer.content_type == "application/problem+json"


@pytest.mark.parametrize("size", [0, 11, 4 * MIB, 4 * MIB + 1, LIMIT])
async def test_a_document_comes_back_byte_for_byte(
    acme: Space, visitor: aiohttp.ClientSession, size: int
) -> None:
    data = os.urandom(size)
    name = "Übersicht & Plan.pdf"
    body = form(data, name, "application/pdf")
    async with visitor.post(acme.url("/api/documents"), data=body) as answer:
        assert answer.status == 201
        document = await answer.json()
        assert answer.headers["Location"] == f"/api/documents/{document['id']}"
    assert document == {
        "id": document["id"],
        "name": name,
        "content_type": "application/pdf",
        "size": size,
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    async with visitor.get(acme.url("/api/documents", 1)) as answer:
        assert document in await answer.json()
    async with visitor.get(acme.url(f"/api/documents/{document['id']}", 1)) as answer:
        assert answer.headers["Content-Type"] == "application/pdf"
        assert answer.headers["Content-Disposition"].startswith("attachment; ")
        assert "%C3%9Cbersicht%20%26%20Plan.pdf" in answer.headers["Content-Disposition"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert await answer.read() == data
    assert (await blobs(acme))[document["id"]] == size


async def test_a_byte_over_the_limit_is_refused_and_leaves_nothing(
    acme: Space, visitor: aiohttp.ClientSession
) -> None:
    before = await blobs(acme)
    for size in (LIMIT + 1, LIMIT + 5 * MIB):
        body = form(b"x" * size)
        async with visitor.post(acme.url("/api/documents"), data=body) as answer:
            assert answer.status == 413
            assert answer.content_type == "application/problem+json"
    assert await blobs(acme) == before


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (form(b"x", part="other"), 400),
        (form(b"x", name=""), 400),
        (form(b"x", name="\x85"), 400),
        (form(b"x", name="n" * 256), 400),
        (form(b"x", kind="nonsense"), 400),
    ],
)
async def test_an_upload_of_the_wrong_shape_is_refused(
    acme: Space, visitor: aiohttp.ClientSession, body: aiohttp.FormData, status: int
) -> None:
    async with visitor.post(acme.url("/api/documents"), data=body) as answer:
        assert answer.status == status
        assert (await answer.json())["detail"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no boundary at all",
        b"--b\r\nnonsense",
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nhalf',
        ENCODED,
        TWO_FILES,
    ],
)
async def test_a_malformed_or_cut_upload_is_refused_and_leaves_nothing(
    acme: Space, visitor: aiohttp.ClientSession, data: bytes
) -> None:
    before = await blobs(acme)
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    async with visitor.post(acme.url("/api/documents"), data=data, headers=headers) as answer:
        assert answer.status == 400
        assert answer.content_type == "application/problem+json"
    assert await blobs(acme) == before


async def test_a_folder_in_a_filename_is_dropped(
    acme: Space, visitor: aiohttp.ClientSession
) -> None:
    body = form(b"x", "..\\..\\etc/passwd")
    async with visitor.post(acme.url("/api/documents"), data=body) as answer:
        assert (await answer.json())["name"] == "passwd"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/documents/unknown", 404),
        ("GET", "/api/documents/%00", 404),
        ("GET", "/api/nothing", 404),
        ("DELETE", "/api/devices", 405),
        ("PUT", "/", 405),
    ],
)
async def test_unknown_paths_and_verbs_are_problems(
    acme: Space, visitor: aiohttp.ClientSession, method: str, path: str, status: int
) -> None:
    async with visitor.request(method, acme.url(path)) as answer:
        assert answer.status == status
        assert (await answer.json())["status"] == status


@pytest.mark.parametrize("mark", [None, "forged", ""])
async def test_who_comes_past_the_front_door_is_refused(acme: Space, mark: str | None) -> None:
    headers = {} if mark is None else {"X-Azure-FDID": mark}
    async with aiohttp.ClientSession(headers=headers) as session:
        for path in ("/", "/api/devices"):
            async with session.get(acme.url(path)) as answer:
                assert answer.status == 403
        async with session.get(acme.url("/healthz")) as answer:
            assert answer.status == 200
