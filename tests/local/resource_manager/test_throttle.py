"""The token bucket: how much a caller may ask, and what it hears when that is over."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.mgmt.resource.resources import ResourceManagementClient

from local.errors import StackError
from local.home import Home
from local.resource_manager.server import Server
from local.resource_manager.service import Service
from local.resource_manager.throttle import Throttle, ThrottledError
from tests.local.resource_manager.clients import Arm
from tests.local.resource_manager.doubles import a_cloud

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def asked(throttle: Throttle, method: str = "PUT", caller: str = "a") -> int:
    """How often a request is taken before it is refused."""
    for number in range(10_000):
        try:
            throttle.take(method, "s", caller)
        except ThrottledError:
            return number
    raise AssertionError("never refused")


def test_the_documented_buckets_empty_and_fill_again() -> None:
    clock = Clock()
    throttle = Throttle("azure", clock)
    assert asked(throttle, "PUT") == 200
    assert asked(throttle, "DELETE") == 200
    assert asked(throttle, "GET") == 250
    clock.now += 1
    assert asked(throttle, "POST") == 10
    assert asked(throttle, "HEAD") == 25
    clock.now += 3600
    assert asked(throttle, "PATCH") == 200


def test_a_refusal_says_when_a_token_is_there_again() -> None:
    clock = Clock()
    throttle = Throttle("writes=1/0.25", clock)
    left = throttle.take("PUT", "s", "a")
    assert left["x-ms-ratelimit-remaining-subscription-writes"] == "0"
    with pytest.raises(ThrottledError) as refused:
        throttle.take("PUT", "s", "a")
    assert refused.value.headers["Retry-After"] == "4"
    assert (refused.value.status, refused.value.code) == (429, "SubscriptionRequestsThrottled")
    clock.now += 4
    throttle.take("PUT", "s", "a")


def test_callers_have_buckets_of_their_own_and_one_together() -> None:
    throttle = Throttle("writes=2/1", Clock())
    assert asked(throttle, caller="a") == 2
    assert asked(throttle, caller="b") == 2
    assert sum(asked(throttle, caller=f"c{n}") for n in range(30)) == 2 * 15 - 4


def test_it_is_off_unless_a_setting_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KPAX_ARM_THROTTLE", raising=False)
    throttle = Throttle.from_environment()
    assert [throttle.take("PUT", "s", "a") for _ in range(5000)] == [{}] * 5000


@pytest.mark.parametrize("setting", ["on", "writes", "writes=0/1", "writes=1/0", "other=1/1"])
def test_a_setting_that_is_not_understood_stops_the_start(setting: str) -> None:
    with pytest.raises(StackError, match="KPAX_ARM_THROTTLE"):
        Throttle(setting)


@pytest.fixture
def throttled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Arm]:
    monkeypatch.setenv("KPAX_ARM_THROTTLE", "writes=3/1000000,reads=5/0.001")
    home = Home.open(tmp_path / "home")
    cloud = a_cloud(home)
    server = Server(home, Service(cloud))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
    found = Arm(home, cloud)
    yield found
    for client in found.clients:
        client.close()
    asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)
    loop.close()


def test_the_unmodified_client_meets_it(throttled: Arm) -> None:
    groups: Any = throttled.client(ResourceManagementClient).resource_groups
    seen: dict[str, str] = {}

    def keep(answer: Any) -> None:
        seen.update(answer.http_response.headers)

    for left in (4, 3, 2, 1, 0):
        assert not groups.check_existence("rg", raw_response_hook=keep)
        assert seen["x-ms-ratelimit-remaining-subscription-reads"] == str(left)
    with pytest.raises(HttpResponseError) as refused:
        groups.get("rg", raw_response_hook=keep)
    assert refused.value.status_code == 429
    assert refused.value.error.code == "SubscriptionRequestsThrottled"  # type: ignore[union-attr]
    assert int(seen["Retry-After"]) > 100
    for _ in range(10):  # writes have a bucket of their own, which fills at once
        groups.create_or_update("rg", {"location": "francecentral"})
