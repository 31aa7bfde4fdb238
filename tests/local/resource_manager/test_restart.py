"""kill -9 of the Resource Manager: what was running goes on, what was made is known."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from local.app_settings import subscription_id
from local.home import PROJECT, Home
from local.resource_manager.cloud import Identities
from local.resource_manager.store import Store
from tests.local.resource_manager.clients import (
    Arm,
    a_group,
    a_network,
    an_account,
    group_template,
    nested,
    stack_body,
    subscription_template,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DOUBLES = Path(__file__).parent / "doubles.py"


class Part:
    """A Resource Manager with doubles, in a process of its own."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {**os.environ, "KPAX_ARM_RETRY_AFTER": "0", "PYTHONPATH": str(PROJECT)}
        log = self.home.path("part.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, str(DOUBLES), str(self.home.root)],
            env=environment,
            stderr=log,
            cwd=PROJECT,
        )
        log.close()
        url = f"http://127.0.0.1:{self.home.port('resource_manager')}/healthz"
        until(lambda: _answers(url))

    def end(self, how: signal.Signals = signal.SIGKILL) -> int:
        if self.process is None:
            return 0
        self.process.send_signal(how)
        code = self.process.wait(10)
        self.process = None
        return code


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310 — our own server
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def until(what: Callable[[], Any], *, within_s: float = 20.0) -> Any:
    deadline = time.monotonic() + within_s
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)
    return found


@pytest.fixture
def part(tmp_path: Path) -> Iterator[Part]:
    found = Part(Home.open(tmp_path / "home"))
    found.start()
    yield found
    found.end()


class Names:
    """What a client has to know of the cloud: the home keeps it for every process."""

    def __init__(self, home: Home) -> None:
        self.identities = Identities(home)
        self.subscription = subscription_id(home)


@pytest.fixture
def arm(part: Part) -> Iterator[Arm]:
    names: Any = Names(part.home)
    found = Arm(part.home, names)
    yield found
    for client in found.clients:
        client.close()


TEMPLATE = subscription_template(
    a_group(), nested("fill", "rg", group_template(a_network(), an_account()))
)
SLOW = {"kind": "slow", "type": "Microsoft.Storage/storageAccounts", "for_s": 60}


def state(arm: Arm) -> str:
    return arm.stacks.get_at_subscription("stack").properties.provisioning_state


def resource_state(arm: Arm) -> str | None:
    stack = arm.stacks.get_at_subscription("stack")
    return next((one.id for one in stack.properties.resources if "someaccount" in one.id), None)


def test_a_stack_that_was_being_made_is_made_after_a_kill(part: Part, arm: Arm) -> None:
    arm.fail(SLOW)
    begun = arm.stacks.begin_create_or_update_at_subscription(
        "stack", stack_body(TEMPLATE), polling=False
    )
    assert begun.result().properties.provisioning_state == "creating"
    until(lambda: resource_state(arm))
    part.end()
    arm.fail()
    part.start()
    until(lambda: state(arm) == "succeeded")
    names = {one.id.rpartition("/")[2]
             for one in arm.stacks.get_at_subscription("stack").properties.resources}  # fmt: skip
    assert names == {"rg", "net", "someaccount"}


def test_a_stack_that_was_being_deleted_is_gone_after_a_kill(part: Part, arm: Arm) -> None:
    arm.stacks.begin_create_or_update_at_subscription("stack", stack_body(TEMPLATE)).result()
    arm.fail({**SLOW, "action": "delete"})
    arm.stacks.begin_delete_at_subscription(
        "stack", unmanage_action_resources="delete", unmanage_action_resource_groups="delete",
        polling=False,
    )  # fmt: skip
    until(lambda: state(arm) == "deleting")
    part.end()
    arm.fail()
    part.start()
    until(lambda: not list(arm.stacks.list_at_subscription()))
    assert list(arm.groups.list()) == []


def test_the_link_of_an_operation_works_after_a_kill(part: Part, arm: Arm) -> None:
    seen: dict[str, str] = {}

    def keep(answer: Any) -> None:
        seen.update(answer.http_response.headers)

    arm.fail(SLOW)
    arm.stacks.begin_create_or_update_at_subscription(
        "stack", stack_body(TEMPLATE), polling=False, raw_response_hook=keep
    )
    part.end()
    arm.fail()
    part.start()

    def ended() -> dict[str, Any] | None:
        request = urllib.request.Request(  # noqa: S310 — our own server
            seen["Azure-AsyncOperation"],
            headers={"Authorization": f"Bearer {part.home.secret('token')}"},
        )
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 — see above
            said = json.load(answer)
        return said if said["status"] != "Running" else None

    assert until(ended)["status"] == "Succeeded"


def test_what_was_answered_is_there_after_a_kill(part: Part, arm: Arm) -> None:
    for n in range(20):
        arm.groups.create_or_update(f"rg{n}", {"location": "uksouth"})
    part.end()
    part.start()
    assert len(list(arm.groups.list())) == 20


def test_it_ends_on_sigterm_and_keeps_what_runs_for_the_next(part: Part, arm: Arm) -> None:
    arm.fail(SLOW)
    arm.stacks.begin_create_or_update_at_subscription(
        "stack", stack_body(TEMPLATE), polling=False
    )
    assert part.end(signal.SIGTERM) == 0
    arm.fail()
    part.start()
    until(lambda: state(arm) == "succeeded")


def test_a_second_one_on_the_same_home_is_refused_and_touches_nothing(
    part: Part, arm: Arm
) -> None:
    arm.fail(SLOW)
    arm.stacks.begin_create_or_update_at_subscription(
        "stack", stack_body(TEMPLATE), polling=False
    )
    second = subprocess.run(
        [sys.executable, str(DOUBLES), str(part.home.root)],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        check=False,
        timeout=20,
    )
    assert second.returncode == 1
    assert b"resource_manager cannot start" in second.stderr
    assert b"Traceback" not in second.stderr
    assert b"resumed" not in second.stderr


def test_a_file_of_an_earlier_version_is_read_and_grows(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.executescript(
            "create table resources (key text primary key, id text not null, "
            "type text not null, state text not null, body text not null, "
            "hidden text not null, stack text) without rowid;"
            "create table operations (id text primary key, kind text not null, "
            "target text not null, status text not null, inputs text, error text, "
            "started_at text not null, ended_at text) without rowid;"
            "insert into resources values ('/subscriptions/s/resourcegroups/rg', "
            "'/subscriptions/s/resourceGroups/rg', 'microsoft.resources/resourcegroups', "
            "'Succeeded', '{\"location\": \"uksouth\"}', '{}', null);"
        )
    for _ in range(2):
        store = Store(path)
        (record,) = store.all()
        assert record.wanted == {"location": "uksouth"}
        store.put(replace(record, declared={"location": "ukwest"}))
        assert store.all()[0].wanted["location"] == "ukwest"
        store.put(replace(record, declared=None))
        store.close()
