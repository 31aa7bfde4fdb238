"""The billing system answers whole or not at all: one suite on the fake, a file and HTTP."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

import spaces.adapters.billing
from spaces.adapters.billing import FileBilling, HttpBilling
from spaces.errors import (
    DamagedError,
    DeniedError,
    InvalidError,
    KpaxError,
    ThrottledError,
    TransientError,
    UnreachableError,
)
from tests.conformance.scripted import Reply, Scripted, scripted
from tests.fakes import FakeBilling, a_subscription
from tests.fakes.billing import PAGE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from spaces.ports import Billing, Subscription

STRANGE = "sub/1?a=b&c#d é☃"


def as_listed(one: Subscription) -> dict[str, Any]:
    """A subscription in the form in which billing answers it."""
    told = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name in one.snapshot.__struct_fields__
        for value in [getattr(one.snapshot, name)]
    }
    listed: dict[str, Any] = {
        "subject": one.subject,
        "sequence": one.sequence,
        "snapshot": told,
    }
    if one.order_id is not None:
        listed["order_id"] = one.order_id
    if one.type is not None:
        listed["type"] = one.type
    return listed


class Rig:
    """A billing system that knows what it is told, and the port that asks it."""

    def __init__(self, billing: Billing, subscriptions: list[Subscription]) -> None:
        self.billing = billing
        self.told = subscriptions

    async def all(self) -> list[Subscription]:
        """Every page, one after the other."""
        found: list[Subscription] = []
        cursor: str | None = None
        while True:
            page = await self.billing.page(cursor)
            found += page.items
            if page.total is not None:
                assert page.total == len(self.told)
            cursor = page.next_cursor
            if cursor is None:
                return found


@pytest.fixture(params=["fake", "file", "http"])
async def rig(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Rig]:
    """Five subscriptions, in pages of two."""
    told = [
        a_subscription("sub-1", 3, order_id="o-1", type="billing.subscription.activated"),
        a_subscription("sub-2", status="cancelled"),
        a_subscription("sub-3", plan="premium", legal_hold=True),
        a_subscription("sub-4", quantity=2),
        a_subscription(STRANGE, 9),
    ]
    monkeypatch.setattr(spaces.adapters.billing, "PAGE", PAGE)
    if request.param == "fake":
        yield Rig(FakeBilling(*told), told)
    elif request.param == "file":
        path = tmp_path / "billing.json"
        path.write_text(json.dumps({"items": [as_listed(one) for one in told]}))
        yield Rig(FileBilling(path), told)
    else:
        async with scripted() as server:
            server.respond = _billing_of(told)
            http = HttpBilling(server.url + "/v1/", token="t-1")
            yield Rig(http, told)
            await http.close()


def _billing_of(told: list[Subscription]) -> Any:
    """A billing system's HTTP side: cursors that mean nothing to us, 404 with a word of its own."""

    def respond(method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        assert (method, headers["authorization"]) == ("GET", "Bearer t-1")
        parts = urlsplit(path)
        if parts.path == "/v1/subscriptions":
            query = parse_qs(parts.query)
            at, limit = int(query.get("cursor", ["0"])[0]), int(query["limit"][0])
            shown = [as_listed(one) for one in told[at : at + limit]]
            more = {"next_cursor": str(at + limit)} if at + limit < len(told) else {}
            return Reply(body={"items": shown, "total": len(told), **more, "extra": 1})
        subject = unquote(parts.path.removeprefix("/v1/subscriptions/"))
        found = [one for one in told if one.subject == subject]
        if not found:
            return Reply(status=404, body={"title": "no such subscription"})
        return Reply(body=as_listed(found[0]))

    return respond


async def test_the_list_is_whole_page_by_page(rig: Rig) -> None:
    first = await rig.billing.page()
    assert len(first.items) == PAGE
    found = sorted(await rig.all(), key=lambda one: one.subject)
    assert found == sorted(rig.told, key=lambda one: one.subject)


async def test_one_is_found_by_its_name_whatever_stands_in_it(rig: Rig) -> None:
    for one in rig.told:
        assert await rig.billing.subscription(one.subject) == one


async def test_what_billing_does_not_know_is_none(rig: Rig) -> None:
    assert await rig.billing.subscription("sub-0") is None


@pytest.mark.parametrize(
    "text", [None, "", "[]", '{"items": [', '{"items": [{"subject": "x"}]}']
)
async def test_a_file_that_is_no_list_is_not_an_empty_one(
    tmp_path: Path, text: str | None
) -> None:
    path = tmp_path / "billing.json"
    if text is not None:
        path.write_text(text)
    billing = FileBilling(path)
    with pytest.raises(UnreachableError if text is None else DamagedError):
        await billing.page()
    with pytest.raises(KpaxError):
        await billing.subscription("sub-1")


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    async with scripted() as running:
        yield running


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(status=401, body={}), DeniedError),
        (Reply(status=403, body={}), DeniedError),
        (Reply(status=429, body={}), ThrottledError),
        (Reply(status=408, body={}), TransientError),
        (Reply(status=500, text="<html>"), TransientError),
        (Reply(status=503, body={}), TransientError),
        (Reply(status=400, body={}), InvalidError),
        (Reply(status=302, headers={"Location": "/elsewhere"}), DamagedError),
        (Reply(status=404, text="<html>no such page"), DamagedError),
        (Reply(status=204), DamagedError),
        (Reply(text="<html>please sign in"), DamagedError),
        (Reply(text='{"items": [{"subject": "sub-1", "sequ'), DamagedError),
        (Reply(body={"items": [{"subject": "sub-1"}]}), DamagedError),
        (Reply(body=None), DamagedError),
        (Reply(cut=True), UnreachableError),
    ],
)
async def test_what_is_no_answer_is_never_a_no(
    server: Scripted, reply: Reply, error: type[KpaxError]
) -> None:
    server.will(reply)
    billing = HttpBilling(server.url)
    for question in (billing.page(), billing.page("c"), billing.subscription("sub-1")):
        with pytest.raises(error):
            await question
    await billing.close()


async def test_an_answer_cut_in_the_middle_is_no_answer(
    server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spaces.adapters.billing, "TIMEOUT_S", 1.0)
    server.will(Reply(body={"items": []}, headers={"Content-Length": "500"}))
    billing = HttpBilling(server.url)
    with pytest.raises(UnreachableError):
        await billing.page()
    await billing.close()


async def test_billing_says_when_to_come_back(server: Scripted) -> None:
    server.will(Reply(status=429, headers={"Retry-After": "7"}))
    billing = HttpBilling(server.url)
    with pytest.raises(ThrottledError) as asked:
        await billing.page()
    assert asked.value.retry_after_s == 7
    await billing.close()


async def test_silence_ends_after_the_time_for_an_answer(
    server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spaces.adapters.billing, "TIMEOUT_S", 0.05)
    server.will(Reply(hang=True))
    billing = HttpBilling(server.url)
    with pytest.raises(UnreachableError, match="within"):
        await billing.page()
    await billing.close()


async def test_where_nobody_listens_it_is_unreachable(unused_port: int) -> None:
    billing = HttpBilling(f"http://127.0.0.1:{unused_port}")
    with pytest.raises(UnreachableError):
        await billing.subscription("sub-1")
    await billing.close()


async def test_an_answer_without_end_is_cut_off(
    server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spaces.adapters.billing, "MOST_BYTES", 1_000)
    server.will(Reply(text="x" * 1_001))
    billing = HttpBilling(server.url)
    with pytest.raises(DamagedError, match="larger"):
        await billing.page()
    await billing.close()


async def test_no_token_is_sent_where_none_is_given(server: Scripted) -> None:
    server.will(Reply(body={"items": []}))
    billing = HttpBilling(server.url)
    await billing.page()
    assert "authorization" not in server.headers[0]
    await billing.close()
