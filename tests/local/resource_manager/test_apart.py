"""A template that keeps a processor for seconds keeps nobody else waiting."""

from __future__ import annotations

import json
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from local.resource_manager.apart import take_turns
from tests.local.resource_manager.clients import Arm, group_template, stack_body

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HUNGRY = (
    "[length(map(range(0, 400), lambda('a', length(map(range(0, 200), "
    "lambda('b', add(lambdaVariables('a'), mul(lambdaVariables('b'), 3))))))))]"
)
DEPLOYMENT = "/resourcegroups/rg/providers/Microsoft.Resources/deployments/hungry"
STACK = "/resourcegroups/rg/providers/Microsoft.Resources/deploymentStacks/hungry"


@pytest.fixture(autouse=True)
def turns() -> Iterator[None]:

    before = sys.getswitchinterval()
    take_turns()
    yield
    sys.setswitchinterval(before)


def call(arm: Arm, method: str, path: str, body: Any, version: str) -> tuple[int, Any]:
    request = urllib.request.Request(  # noqa: S310 — a loopback address
        f"{arm.url}/subscriptions/{arm.subscription}{path}?api-version={version}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {arm.home.secret('token')}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310 — as above
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def while_it_runs(arm: Arm, hungry: Callable[[], Any]) -> tuple[list[float], float]:
    """How long each short request took while the hungry one ran, and how long that one ran."""
    started = threading.Event()

    def eat() -> float:
        before = time.monotonic()
        started.set()
        status, said = hungry()
        assert status in (200, 201), said
        return time.monotonic() - before

    with ThreadPoolExecutor(1) as pool:
        eater = pool.submit(eat)
        started.wait(10)
        waits: list[float] = []
        while not eater.done():
            before = time.monotonic()
            assert call(arm, "GET", "/resourcegroups/rg", None, "2025-04-01")[0] == 200
            waits.append(time.monotonic() - before)
        return waits, eater.result()


@pytest.mark.parametrize("what", ["validate", "put", "stack"])
def test_others_are_answered_while_a_template_is_evaluated(arm: Arm, what: str) -> None:
    arm.groups.create_or_update("rg", {"location": "francecentral"})
    template = group_template(variables={"much": HUNGRY})
    deployment = {"properties": {"mode": "Incremental", "template": template}}
    hungry: dict[str, Callable[[], Any]] = {
        "validate": lambda: call(
            arm, "POST", f"{DEPLOYMENT}/validate", deployment, "2025-04-01"
        ),
        "put": lambda: call(arm, "PUT", DEPLOYMENT, deployment, "2025-04-01"),
        "stack": lambda: call(arm, "PUT", STACK, stack_body(template), "2025-07-01"),
    }
    waits, whole = while_it_runs(arm, hungry[what])
    assert len(waits) > 5, (waits, whole)
    assert sorted(waits)[len(waits) // 2] < whole / 5


def test_two_deployments_of_one_name_are_still_told_apart(arm: Arm) -> None:
    arm.groups.create_or_update("rg", {"location": "francecentral"})
    template = group_template(variables={"much": HUNGRY})
    body = {"properties": {"mode": "Incremental", "template": template}}
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(call, arm, "PUT", DEPLOYMENT, body, "2025-04-01") for _ in range(2)]
        answers = sorted(one.result()[0] for one in both)
    assert answers == [201, 409]


def test_the_store_is_read_by_threads_while_it_is_written(arm: Arm) -> None:
    store = arm.cloud.store
    done = threading.Event()

    def look() -> int:
        looks = 0
        while not done.is_set():
            assert len(store.kept("tagName")) <= 50
            store.of_type("Microsoft.Resources/resourceGroups")
            looks += 1
        return looks

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(look) for _ in range(3)]
        for number in range(300):
            store.keep("tagName", f"n{number % 50}", {"name": "n", "values": []})
            store.kept("tagName")
        done.set()
        assert all(one.result() > 0 for one in readers)
