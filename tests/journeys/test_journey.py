"""The journey of `make run` on real parts, and then the contract of every command on its state."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from azure.servicebus import ServiceBusClient, ServiceBusMessage

from local.home import PROJECT
from tests.journeys.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    running = Stack()
    running.up()
    yield running
    running.down()


def ask(
    stack: Stack, method: str, path: str, *, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """One request to the Functions host, without a key unless one is given."""
    base = stack.json("env")["functions"]
    request = urllib.request.Request(base + path, method=method, headers=headers or {})  # noqa: S310 - loopback
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
    try:
        with opener.open(request, timeout=30) as answer:
            return answer.status, _lower(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, _lower(error.headers), error.read()


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Show the redirect itself."""


def test_the_journey_holds(stack: Stack) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "local.demo"],
        cwd=PROJECT,
        env={**os.environ, "KPAX_HOME": str(stack.home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "The journey held" in ran.stdout


def test_a_space_is_shown_whole(stack: Stack) -> None:
    listed = stack.json("space", "list")["items"]
    assert {one["status"] for one in listed} == {"active"}
    shown = stack.space(listed[0]["name"])
    assert shown == stack.space(shown["space_id"])
    assert shown["zones"] == ["1", "2"]
    assert not shown["url"].endswith("/")
    assert shown["operation"] is None
    assert shown["last_backup"]["verified_at"]
    assert {one["zone"] for one in shown["instances"]} == {"1", "2"}
    assert {one["memory_mib"] for one in shown["instances"]} <= {128, 192, 256}
    assert all(one["limited_by"] for one in shown["instances"])


def test_operations_tell_their_steps(stack: Stack) -> None:
    name = stack.json("space", "list")["items"][0]["name"]
    operations = stack.json("op", "list", name)["items"]
    assert [one["kind"] for one in operations][-1] == "provision"
    for one in operations:
        shown = stack.json("op", "show", one["operation_id"])
        assert shown["status"] == "succeeded"
        assert shown["error"] is None
        for step in shown["steps"]:
            assert step["status"] == "succeeded", step
            assert step["started_at"] <= step["ended_at"]
            assert step["attempts"] >= 1


def test_backups_are_listed_and_a_dry_run_does_nothing(stack: Stack) -> None:
    name = next(
        one["name"]
        for one in stack.json("space", "list")["items"]
        if one["cluster"] == "france"
    )
    backups = stack.json("backup", "list", name)["items"]
    assert {"backup_id", "state", "completed_at", "bytes_stored"} <= set(backups[0])
    before = stack.json("op", "list", name)["items"]
    stack.json("restore", name, "--at", "latest", "--dry-run")
    assert stack.json("op", "list", name)["items"] == before


def test_a_backup_run_waits_and_prints_one_object(stack: Stack) -> None:
    name = stack.json("space", "list")["items"][0]["name"]
    ran = stack.run("backup", "run", name, "--wait", "--json")
    assert ran.code == 0, ran.err
    assert {"backup_id", "state", "kind", "seconds", "bytes_read", "bytes_stored"} <= set(
        ran.body
    )
    assert {"storage_calls", "files", "root_hash", "expires_at"} <= set(ran.body)
    assert ran.body["tables"]["public.devices"] > 0
    assert ran.err, "progress belongs on stderr"


def test_a_restore_waits_and_prints_the_operation(stack: Stack) -> None:
    name = stack.json("space", "list")["items"][0]["name"]
    ran = stack.run("restore", name, "--at", "latest", "--wait", "--json")
    assert ran.code == 0, ran.err
    assert (ran.body["kind"], ran.body["status"]) == ("restore", "succeeded")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("space", "show", "nobody"), 2),
        (("op", "show", "op-nothing"), 2),
        (("backup", "run", "nobody"), 2),
        (("restore", "nobody", "--at", "latest"), 2),
        (("route", "--country", "DE"), 0),
        (("route", "--country", "RU"), 3),
        (("route", "--country", "XX"), 2),
        (("space", "list", "--cluster", "mars"), 2),
        (("frobnicate",), 2),
        (("order", "create", "--name", "x!", "--country", "DE", "--customer-ref", "c"), 2),
        (("order", "create", "--name", "aa", "--country", "RU", "--customer-ref", "c"), 3),
        (
            ("order", "create", "--name", "aa", "--country", "DE", "--customer-ref", "c",
             "--plan", "gold"),
            2,
        ),
    ],
)  # fmt: skip
def test_exit_codes_follow_the_house_style(
    stack: Stack, arguments: tuple[str, ...], code: int
) -> None:
    ran = stack.run(*arguments, "--json")
    assert ran.code == code, ran.out + ran.err
    body = json.loads(ran.out)
    if code and arguments[0] != "route":
        assert {"type", "title", "status", "detail"} <= set(body)
    quiet = stack.run(*arguments)
    assert quiet.code == code
    if code == 2 and arguments[0] != "route":
        assert quiet.err
        assert not quiet.out


def test_a_name_belongs_to_one_order(stack: Stack) -> None:
    stack.order("taken")
    ran = stack.run(
        "order", "create", "--name", "taken", "--country", "FR", "--customer-ref", "x", "--json"
    )
    assert ran.code == 3
    assert ran.body["type"].endswith("/name-taken")


def test_the_same_event_three_times_and_junk_between(stack: Stack) -> None:
    order = stack.order("thrice")
    env = stack.json("env")
    before = len(_rejected(stack))
    with (
        ServiceBusClient.from_connection_string(env["service_bus_connection"]) as client,
        client.get_queue_sender(env["queues"]["billing"]) as sender,
    ):
        for junk in (
            ServiceBusMessage("no json at all"),
            ServiceBusMessage(b"\xff\xfe", message_id="junk-1"),
            ServiceBusMessage("[1]", message_id="junk-2"),
        ):
            sender.send_messages(junk)
        for _ in range(3):
            stack.pay(order, "--event-id", "evt-thrice")
        sender.send_messages(ServiceBusMessage("{}"))
    stack.until_active("thrice")
    stack.until(lambda: len(_rejected(stack)) == before + 4, within_s=30, told="junk is kept")
    assert [one["kind"] for one in stack.json("op", "list", "thrice")["items"]] == ["provision"]
    kept = _rejected(stack)[-4:]
    assert all({"reason", "detail", "message_id", "at"} <= set(one) for one in kept)
    depths = {one["name"]: one for one in stack.json("queue", "list")["items"]}
    assert depths["billing-events"]["active"] == 0
    assert depths["billing-events"]["dead_letter"] == 0


def _rejected(stack: Stack) -> list[dict[str, Any]]:
    return next(
        one["rejected"]
        for one in stack.json("queue", "list")["items"]
        if one["name"] == "billing-events"
    )


def test_the_front_door_knows_names_and_nothing_else(stack: Stack) -> None:
    port = stack.json("env")["front_door"].rsplit(":", 1)[1]
    for host in ("nobody.france.localhost", "taken.france.localhost", "localhost", "127.0.0.1"):
        request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Host": host})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with pytest.raises(urllib.error.HTTPError) as refused:
            opener.open(request, timeout=10)
        assert refused.value.code == 404


def test_the_console_asks_for_the_key_once(stack: Stack) -> None:
    env = stack.json("env")
    status, _, page = ask(stack, "GET", "/console")
    assert (status, b"needs its key" in page) == (401, True)
    assert ask(stack, "GET", "/console?code=wrong")[0] == 401
    status, headers, _ = ask(stack, "GET", f"/console?code={env['function_key']}")
    assert (status, headers["location"]) == (303, "/console")
    cookie = headers["set-cookie"].split(";")[0]
    status, headers, page = ask(stack, "GET", "/console", headers={"Cookie": cookie})
    assert status == 200
    spaces = [one["name"] for one in stack.json("space", "list")["items"]]
    for name in (*spaces, "France", "England", "India"):
        assert name.encode() in page
    assert "unsafe-inline" not in headers["content-security-policy"]
    assert b"style=" not in page
    status, headers, _ = ask(
        stack, "GET", "/console/fragments/fleet", headers={"Cookie": cookie}
    )
    again = ask(
        stack,
        "GET",
        "/console/fragments/fleet",
        headers={"Cookie": cookie, "If-None-Match": headers["etag"]},
    )
    assert (status, again[0]) == (200, 304)


def test_the_console_answers_a_question_of_the_router(stack: Stack) -> None:
    assert ask(stack, "GET", "/console/routing?country=DE")[0] == 401
    key = stack.json("env")["function_key"]
    shared = "/console/routing?country=NZ&pin=&exclude=uk&exclude=india"
    status, headers, _ = ask(stack, "GET", f"{shared}&code={key}")
    cookie = {"Cookie": headers["set-cookie"].split(";")[0]}
    assert (status, headers["location"]) == (303, shared)
    status, headers, _ = ask(stack, "GET", headers["location"], headers=cookie)
    short = "/console/routing?country=NZ&exclude=uk,india"
    assert (status, headers["location"]) == (303, short)
    status, headers, page = ask(stack, "GET", short, headers=cookie)
    assert status == 200
    assert b"New Zealand" in page
    assert page.count(b"Left out by wish") == 2
    assert ask(stack, "GET", "/console/compliance", headers=cookie)[0] == 200
    assert ask(stack, "GET", "/console/routing?country=%00&x=%ff", headers=cookie)[0] == 400


def test_without_a_key_the_api_is_closed(stack: Stack) -> None:
    for path in ("/api/v1/spaces", "/api/v1/queues", "/api/v1/operations/op-x"):
        status, headers, body = ask(stack, "GET", path)
        assert status == 401
        assert headers["content-type"].startswith("application/problem+json")
        assert json.loads(body)["type"].endswith("/unauthenticated")
