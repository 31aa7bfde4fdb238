"""The front door before small origins that misbehave on demand; a real connection each time."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web

from local.front_door.routes import Origin, Route, Routes
from local.front_door.server import FrontDoor
from local.home import Home

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@dataclass
class FakeInstance:
    """An origin that tells what it got."""

    id: str
    zone: str
    port: int = 0
    healthy: bool = True
    claims: str = ""
    seen: list[dict[str, str]] = field(default_factory=list)
    runner: web.AppRunner | None = None
    received: int = 0

    async def start(self) -> FakeInstance:
        app = web.Application(client_max_size=0)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_route("*", "/break", self._break)
        app.router.add_route("*", "/halfway", self._halfway)
        app.router.add_post("/slurp", self._slurp)
        app.router.add_post("/refuse", self._refuse)
        app.router.add_get("/drip", self._drip)
        app.router.add_route("*", "/{rest:.*}", self._echo)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self.runner.addresses[0][1]
        return self

    async def stop(self) -> None:
        if self.runner:
            await self.runner.cleanup()
            self.runner = None

    @property
    def origin(self) -> Origin:
        return Origin(address=f"127.0.0.1:{self.port}", zone=self.zone, instance=self.id)

    async def _healthz(self, request: web.Request) -> web.Response:
        body = {"instance": self.claims or self.id, "zone": self.zone}
        return web.json_response(body, status=200 if self.healthy else 503)

    async def _echo(self, request: web.Request) -> web.Response:
        self.seen.append({name.lower(): value for name, value in request.headers.items()})
        answer = web.json_response(
            {
                "instance": self.id,
                "method": request.method,
                "path": request.raw_path,
                "body": (await request.content.read()).decode("latin-1"),
            }
        )
        answer.headers.add("Set-Cookie", "a=1")
        answer.headers.add("Set-Cookie", "b=2")
        answer.headers["Connection"] = "X-Private"
        answer.headers["X-Private"] = "hop"
        return answer

    async def _break(self, request: web.Request) -> web.Response:
        self.seen.append({"method": request.method})
        assert request.transport
        request.transport.abort()
        return web.Response()

    async def _halfway(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": "1000"})
        await answer.prepare(request)
        await answer.write(b"x" * 500)
        assert request.transport
        request.transport.abort()
        return answer

    async def _slurp(self, request: web.Request) -> web.Response:
        digest = hashlib.sha256()
        async for data in request.content.iter_any():
            digest.update(data)
            self.received += len(data)
        return web.json_response({"sha256": digest.hexdigest(), "size": self.received})

    async def _refuse(self, request: web.Request) -> web.Response:
        return web.json_response({"title": "Too large"}, status=413)

    async def _drip(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"first")
        await self.go_on.wait()
        await answer.write(b"second")
        return answer

    go_on: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Door:
    """The front door under test and what is behind it."""

    home: Home
    front_door: FrontDoor
    routes: Routes
    instances: list[FakeInstance]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.home.port('front_door')}"

    def route(self, *, enabled: bool = True, host: str = "acme.france.localhost") -> None:
        self.routes.replace([Route(host, enabled, tuple(i.origin for i in self.instances))])


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    home = Home.open(tmp_path / "home")
    instances = [
        await FakeInstance(f"s-1_{number}", zone).start()
        for number, zone in enumerate(["1", "2", "1"])
    ]
    front_door = FrontDoor(home)
    await front_door.start()
    found = Door(home, front_door, Routes(home), instances)
    found.route()
    yield found
    await front_door.stop()
    for instance in instances:
        await instance.stop()


@pytest.fixture
async def browser() -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Host": "acme.france.localhost"}
    async with aiohttp.ClientSession(headers=headers) as session:
        yield session


async def test_turns_go_round_over_zones_then_over_instances(
    door: Door, browser: aiohttp.ClientSession
) -> None:
    answered = []
    for _ in range(12):
        async with browser.get(f"{door.url}/x") as answer:
            answered.append((await answer.json())["instance"])
    zones = ["2" if name == "s-1_1" else "1" for name in answered]
    assert zones[:6] in (["1", "2"] * 3, ["2", "1"] * 3)
    assert Counter(answered) == {"s-1_0": 3, "s-1_1": 6, "s-1_2": 3}


@pytest.mark.parametrize(
    "host", ["ACME.France.LOCALHOST", "acme.france.localhost.", "acme.france.localhost:8080"]
)
async def test_a_name_is_found_whatever_its_case_port_or_final_dot(
    door: Door, browser: aiohttp.ClientSession, host: str
) -> None:
    async with browser.get(door.url, headers={"Host": host}) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    "host",
    ["other.france.localhost", "acme.uk.localhost", "127.0.0.1", "localhost", "s-1_0", "", "[::1]",
     "x.acme.france.localhost", "<script>.localhost"],
)  # fmt: skip
async def test_any_other_name_reaches_nothing(
    door: Door, browser: aiohttp.ClientSession, host: str
) -> None:
    async with browser.get(f"{door.url}/x", headers={"Host": host}) as answer:
        assert answer.status == 404
        assert "<script>" not in await answer.text()
    assert not any(instance.seen for instance in door.instances)


async def test_a_suspended_space_says_so(door: Door, browser: aiohttp.ClientSession) -> None:
    door.route(enabled=False)
    async with browser.get(door.url) as answer:
        assert answer.status == 503
        assert "suspended" in await answer.text()
    door.route(enabled=True)
    async with browser.get(door.url) as answer:
        assert answer.status == 200


async def test_when_no_instance_is_healthy_the_page_says_so_until_one_is(
    door: Door, browser: aiohttp.ClientSession
) -> None:
    for instance in door.instances:
        instance.healthy = False
    async with browser.get(door.url) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert "No healthy instance" in await answer.text()
    door.instances[1].healthy = True
    async with browser.get(door.url) as answer:  # asked anew: no wait for the next round
        assert (await answer.json())["instance"] == "s-1_1"


async def test_an_origin_that_is_somebody_else_gets_nothing(
    door: Door, browser: aiohttp.ClientSession
) -> None:
    for instance in door.instances[:2]:
        instance.claims = "s-2_0"
    for _ in range(4):
        async with browser.get(f"{door.url}/x") as answer:
            assert (await answer.json())["instance"] == "s-1_2"
    assert not door.instances[0].seen


async def test_after_a_kill_every_request_still_is_answered(
    door: Door, browser: aiohttp.ClientSession
) -> None:
    for _ in range(6):  # connections to all of them are kept open
        async with browser.get(f"{door.url}/x") as answer:
            assert answer.status == 200
    await door.instances[1].stop()
    for method in ("GET", "POST", "PUT", "POST", "DELETE", "POST"):
        async with browser.request(method, f"{door.url}/x", data=b"body") as answer:
            assert answer.status == 200
            assert (await answer.json())["body"] == "body"


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_restart_of_one_after_the_other_is_not_noticed(
    door: Door, browser: aiohttp.ClientSession, method: str
) -> None:
    async def ask() -> None:
        async with browser.request(method, f"{door.url}/x", data=b"body") as answer:
            assert answer.status == 200
            assert (await answer.json())["body"] == "body"

    for instance in door.instances:
        for _ in door.instances:
            await ask()
        await instance.stop()
        for _ in door.instances:
            await ask()
        await instance.start()  # and the next one goes at once, before this one was asked again


async def test_a_sick_instance_is_left_out_and_taken_back(
    door: Door, browser: aiohttp.ClientSession
) -> None:
    async def answers_from() -> set[str]:
        found = set()
        for _ in range(6):
            async with browser.get(f"{door.url}/x") as answer:
                found.add((await answer.json())["instance"])
        return found

    assert len(await answers_from()) == 3
    door.instances[0].healthy = False
    async with asyncio.timeout(5):
        while "s-1_0" in await answers_from():  # noqa: ASYNC110 — the asking is the point
            await asyncio.sleep(0.02)
        door.instances[0].healthy = True
        while "s-1_0" not in await answers_from():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_broken_get_is_repeated_and_a_broken_post_is_not(
    door: Door, browser: aiohttp.ClientSession
) -> None:
    async with browser.get(f"{door.url}/break") as answer:
        assert answer.status == 503  # every one broke it
    assert sum(len(i.seen) for i in door.instances) >= 3
    for instance in door.instances:
        instance.seen.clear()
    async with browser.post(f"{door.url}/break", data=b"once") as answer:
        assert answer.status == 502
        assert "not known" in await answer.text()
    assert sum(len(i.seen) for i in door.instances) == 1


async def test_a_post_never_meets_a_connection_that_its_origin_is_about_to_close(
    door: Door, browser: aiohttp.ClientSession
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Promises to keep connections, and drops each at its second request."""
        asked = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1]
        body = b'{"instance": "s-1_9"}' if asked == b"/healthz" else b'"fine"'
        head = (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        )
        writer.write(head % len(body) + body)
        await reader.read(1)
        writer.transport.abort()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        origin = Origin(address=f"127.0.0.1:{port}", zone="1", instance="s-1_9")
        door.routes.replace([Route("acme.france.localhost", True, (origin,))])
        for method in ("GET", "POST", "POST"):
            async with browser.request(method, f"{door.url}/x") as answer:
                assert await answer.json() == "fine"
        server.close_clients()


async def test_half_an_answer_is_seen_as_broken_by_the_client(
    door: Door, browser: aiohttp.ClientSession
) -> None:
    with pytest.raises(aiohttp.ClientError):
        async with browser.get(f"{door.url}/halfway") as answer:
            await answer.read()


async def test_an_upload_of_25_mib_streams_through_unchanged(
    door: Door, browser: aiohttp.ClientSession
) -> None:
    data = os.urandom(25 * 2**20)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 100_000):
            yield data[start : start + 100_000]

    for body in (data, pieces()):  # with a length, and chunked
        for instance in door.instances:
            instance.received = 0
        async with browser.post(f"{door.url}/slurp", data=body) as answer:
            found = await answer.json()
        assert found == {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}


async def test_an_answer_before_the_end_of_an_upload_comes_through(
    door: Door, browser: aiohttp.ClientSession
) -> None:
    async with browser.post(f"{door.url}/refuse", data=b"x" * 30_000_000) as answer:
        assert answer.status == 413
        assert (await answer.json())["title"] == "Too large"


async def test_an_answer_is_passed_on_as_it_comes(
    door: Door, browser: aiohttp.ClientSession
) -> None:
    async with browser.get(f"{door.url}/drip") as answer:
        assert await answer.content.readexactly(5) == b"first"
        for instance in door.instances:
            instance.go_on.set()
        assert await answer.content.read() == b"second"


async def test_expect_100_is_answered_when_the_body_is_wanted(door: Door) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", door.home.port("front_door"))
    writer.write(
        b"POST /x HTTP/1.1\r\nHost: acme.france.localhost\r\nContent-Length: 4\r\n"
        b"Expect: 100-continue\r\nConnection: close\r\n\r\n"
    )
    async with asyncio.timeout(5):
        assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
        writer.write(b"body")
        assert b'"body": "body"' in await reader.read()
    writer.close()


async def test_marks_of_the_client_are_replaced_and_hops_stay_hops(
    door: Door, browser: aiohttp.ClientSession
) -> None:
    sent = {
        "X-Azure-FDID": "forged",
        "X-Forwarded-For": "10.0.0.1",
        "X-Forwarded-Proto": "https",
        "Connection": "keep-alive, X-Secret-Hop",
        "X-Secret-Hop": "1",
        "X-Mine": "kept",
        "Cookie": "session=1",
    }
    async with browser.get(f"{door.url}/a%2Fb?q=%20", headers=sent) as answer:
        body = await answer.json()
        assert (body["method"], body["path"]) == ("GET", "/a%2Fb?q=%20")
        assert answer.headers.getall("Set-Cookie") == ["a=1", "b=2"]
        assert "X-Private" not in answer.headers
    [seen] = [seen for instance in door.instances for seen in instance.seen]
    assert seen["x-azure-fdid"] == door.home.secret("front_door_id")
    assert seen["x-forwarded-for"] == "10.0.0.1, 127.0.0.1"
    assert (seen["x-forwarded-proto"], seen["x-forwarded-host"]) == (
        "http",
        "acme.france.localhost",
    )
    assert seen["host"] == "acme.france.localhost"
    assert (seen["x-mine"], seen["cookie"]) == ("kept", "session=1")
    assert "x-secret-hop" not in seen


@pytest.mark.parametrize("target", ["*", "@127.0.0.1:1/x", "http://other.localhost/x"])
async def test_a_target_cannot_name_another_host(door: Door, target: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", door.home.port("front_door"))
    head = (
        f"OPTIONS {target} HTTP/1.1\r\nHost: acme.france.localhost\r\nConnection: close\r\n\r\n"
    )
    writer.write(head.encode())
    async with asyncio.timeout(5):
        status = (await reader.readline()).split()[1]
    writer.close()
    reached = sum(len(instance.seen) for instance in door.instances)
    assert (status == b"400") == (reached == 0)
    assert status in {b"400", b"200"}


async def test_a_head_has_the_length_and_no_body(
    door: Door, browser: aiohttp.ClientSession
) -> None:
    async with browser.head(f"{door.url}/x") as answer:
        assert answer.status == 200
        assert int(answer.headers["Content-Length"]) > 0
        assert await answer.read() == b""


async def test_many_requests_at_once_each_get_their_own_answer(
    door: Door, browser: aiohttp.ClientSession
) -> None:
    async def ask(number: int) -> None:
        async with browser.post(f"{door.url}/x", data=str(number).encode()) as answer:
            assert (await answer.json())["body"] == str(number)

    await asyncio.gather(*(ask(number) for number in range(200)))


async def test_the_supervisor_finds_it_healthy_without_any_space(tmp_path: Path) -> None:
    home = Home.open(tmp_path / "home")
    front_door = FrontDoor(home)
    await front_door.start()
    try:
        url = f"http://127.0.0.1:{home.port('front_door')}/healthz"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            assert (answer.status, await answer.json()) == (200, {"routes": 0})
    finally:
        await front_door.stop()
