"""A space is asked at its public name, as its customer asks it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from spaces.adapters.edge import HttpEdge
from spaces.errors import UnreachableError
from tests.conformance.scripted import Reply, Scripted, scripted
from tests.fakes import FakeEdge
from tests.fakes.edge import answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from spaces.ports import Answer, Edge
    from tests.fakes.edge import Request

NAME = "http://acme.france.localhost"


class Rig:
    """An edge, and the site behind one of its URLs."""

    def __init__(self, edge: Edge, url: str) -> None:
        self.edge = edge
        self.url = url


@pytest.fixture(params=["fake", "http"])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    """Behind both: `/echo` gives the request back, all else is 404."""
    if request.param == "fake":
        fake = FakeEdge()
        fake.serve(NAME, _echo)
        yield Rig(fake, NAME)
        return
    async with scripted() as server:
        server.respond = _echo_reply
        edge = HttpEdge(resolve="127.0.0.1")
        yield Rig(edge, f"{NAME}:{server.url.rpartition(':')[2]}")
        await edge.close()


def _echo(request: Request) -> Answer:
    if not request.path.startswith("/echo"):
        return answer(404, {"title": "not found"})
    told = {
        "method": request.method,
        "path": request.path,
        "body": (request.body or b"").decode(),
        "type": request.content_type,
    }
    return answer(200, told)


def _echo_reply(method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
    if not path.startswith("/echo"):
        return Reply(status=404, body={"title": "not found"})
    told = {
        "method": method,
        "path": path,
        "body": body.decode(),
        "type": headers.get("content-type"),
    }
    return Reply(body=told)


async def test_what_is_asked_arrives_and_what_is_answered_comes_back(rig: Rig) -> None:
    found = await rig.edge.request(
        "POST", f"{rig.url}/echo/a?b=1", body=b'{"x": 1}', content_type="application/json"
    )
    assert found.status == 200
    assert found.headers["content-type"].startswith("application/json")
    assert json.loads(found.body) == {
        "method": "POST",
        "path": "/echo/a?b=1",
        "body": '{"x": 1}',
        "type": "application/json",
    }


async def test_an_error_status_is_an_answer(rig: Rig) -> None:
    found = await rig.edge.request("GET", f"{rig.url}/nothing")
    assert (found.status, json.loads(found.body)) == (404, {"title": "not found"})


async def test_where_nobody_answers_it_is_unreachable(rig: Rig, unused_port: int) -> None:
    with pytest.raises(UnreachableError):
        await rig.edge.request("GET", f"{NAME}:{unused_port}/")


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    async with scripted() as running:
        yield running


async def test_the_host_header_keeps_the_name_whatever_address_answers(
    server: Scripted,
) -> None:
    server.will(Reply(body={}))
    port = server.url.rpartition(":")[2]
    edge = HttpEdge(resolve="127.0.0.1")
    await edge.request("GET", f"http://acme.france.example:{port}/healthz")
    assert server.headers[0]["host"] == f"acme.france.example:{port}"
    await edge.close()


async def test_every_request_has_a_connection_of_its_own(server: Scripted) -> None:
    server.will(Reply(body={}))
    edge = HttpEdge()
    for _ in range(3):
        await edge.request("GET", server.url)
    assert len(set(server.peers)) == 3
    await edge.close()


async def test_a_redirect_is_not_followed(server: Scripted) -> None:
    server.will(Reply(status=302, headers={"Location": f"{server.url}/elsewhere"}))
    edge = HttpEdge()
    assert (await edge.request("GET", f"{server.url}/")).status == 302
    assert len(server.asked) == 1
    await edge.close()


async def test_a_proxy_of_the_environment_is_not_asked(
    server: Scripted, unused_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{unused_port}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    server.will(Reply(body={}))
    edge = HttpEdge()
    assert (await edge.request("GET", server.url)).status == 200
    await edge.close()


async def test_an_answer_that_does_not_come_is_unreachable(
    server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spaces.adapters.edge.TIMEOUT_S", 0.05)
    server.will(Reply(hang=True))
    edge = HttpEdge()
    with pytest.raises(UnreachableError, match="within"):
        await edge.request("GET", server.url)
    await edge.close()


async def test_an_answer_without_end_is_cut_off(
    server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spaces.adapters.edge.MOST_BYTES", 100_000)
    server.will(Reply(text="x" * 100_001))
    edge = HttpEdge()
    with pytest.raises(UnreachableError, match="larger"):
        await edge.request("GET", server.url)
    await edge.close()
