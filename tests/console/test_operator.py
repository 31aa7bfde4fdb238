"""An operator's commands over the real HTTP layer and steps; only the wire is short."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

import azure.functions as func
import pytest
from typer.testing import CliRunner

from console.operator_cli import op_app, pause_app, unpause_app
from spaces import client, http
from spaces.model import Status
from spaces.registry import Registry
from tests.fakes import Script
from tests.functions import functions
from tests.provisioning.test_trouble import heal, paid, poison
from tests.provisioning.world import World

if TYPE_CHECKING:
    import typer

WHY = ["--reason", "seen and mended"]


class Wire:
    """Answers the client's requests by the functions themselves; each look lets time pass."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.asked: list[tuple[str, str]] = []

    def raw(
        self,
        method: str,
        path: str,
        *,
        body: object | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        if method == "GET" and path.startswith("/operations/"):
            self.world.clock.advance(1)
            asyncio.run(self.world.pump())
        self.asked.append((method, path))
        for operation in http.OPERATIONS:
            pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", operation.path)
            found = re.fullmatch(pattern, path)
            if found is None or operation.method != method:
                continue
            request = func.HttpRequest(
                method=method,
                url=path,
                headers={
                    "x-functions-key": self.world.settings.api_key,
                    "content-type": "application/json",
                    **(headers or {}),
                },
                params={},
                route_params=found.groupdict(),
                body=json.dumps(body).encode() if body is not None else b"",
            )
            answer = asyncio.run(functions()[operation.name].get_user_function()(request))
            return answer.status_code, answer.get_body()
        raise AssertionError(f"nobody serves {method} {path}")


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    wire = Wire(World())
    monkeypatch.setattr(http, "ports", lambda: wire.world.ports)
    monkeypatch.setattr(http, "settings", lambda: wire.world.settings)
    monkeypatch.setattr(
        client.Client, "raw", lambda self, *args, **more: wire.raw(*args, **more)
    )
    monkeypatch.setenv("KPAX_API_URL", "http://here")
    monkeypatch.setattr(client.time, "sleep", lambda seconds: None)
    return wire


def call(app: typer.Typer, *words: str, stdin: str = "") -> tuple[int, Any]:
    result = CliRunner().invoke(app, [*words, "--json"], input=stdin)
    try:
        return result.exit_code, json.loads(result.stdout)
    except ValueError:
        return result.exit_code, result.output


def a_stuck_one(world: World) -> str:
    """The id of an operation that waits at step start; what stopped it is mended."""
    space_id = asyncio.run(paid(world))
    poison(world, "arm", "instances")
    asyncio.run(world.settle(hours=1))
    heal(world, "arm")
    return f"op-{space_id}-0001"


def status_of(world: World, op_id: str) -> Status:
    space_id = op_id.removeprefix("op-").rpartition("-")[0]
    return asyncio.run(Registry(world.bare.tables).require(space_id)).space.status


def test_a_retry_that_is_waited_for_exits_by_the_end(wire: Wire) -> None:
    op_id = a_stuck_one(wire.world)
    code, shown = call(op_app, "show", op_id)
    assert (code, shown["status"]) == (0, "needsOperator")
    assert [one["status"] for one in shown["steps"] if one["name"] == "start"] == [
        "needsOperator"
    ]
    code, body = call(op_app, "retry", op_id, *WHY, "--wait")
    assert (code, body["status"]) == (0, "succeeded")
    assert status_of(wire.world, op_id) is Status.ACTIVE


def test_a_retry_that_is_not_waited_for_answers_at_once(wire: Wire) -> None:
    op_id = a_stuck_one(wire.world)
    code, body = call(op_app, "retry", op_id, *WHY, "--from", "deploy")
    assert (code, body["status"], body["error"]) == (0, "running", None)
    assert [one["name"] for one in body["steps"] if one["status"] == "running"] == ["deploy"]


def test_what_is_still_broken_needs_a_person_again(wire: Wire) -> None:
    op_id = a_stuck_one(wire.world)
    poison(wire.world, "arm", "instances")
    code, body = call(op_app, "retry", op_id, *WHY, "--wait")
    assert (code, body["status"]) == (5, "needsOperator")


@pytest.mark.parametrize(
    ("action", "status", "end"),
    [("rollback", "failed", Status.FAILED), ("abort", "canceled", Status.FAILED)],
)
def test_what_is_undone_exits_as_failed(
    wire: Wire, action: str, status: str, end: Status
) -> None:
    op_id = a_stuck_one(wire.world)
    code, body = call(op_app, action, op_id, *WHY, "--wait")
    assert (code, body["status"]) == (1, status)
    assert status_of(wire.world, op_id) is end
    assert wire.world.arm.names() == []


def test_a_dry_run_tells_the_steps_and_does_nothing(wire: Wire) -> None:
    op_id = a_stuck_one(wire.world)
    before = call(op_app, "show", op_id)
    code, body = call(op_app, "rollback", op_id, *WHY, "--dry-run")
    assert code == 0
    assert (body["dry_run"], body["stands_at"], body["undoes"]) == (True, "start", True)
    assert body["steps"] == ["deploy", "reserve", "route"]
    assert "MaxDeliveryCountExceeded" in body["waits_because"]
    assert call(op_app, "show", op_id) == before
    text = CliRunner().invoke(op_app, ["rollback", op_id, *WHY, "--dry-run"]).stdout
    assert "It would undo: deploy, reserve, route." in text


@pytest.mark.parametrize("action", ["retry", "skip", "rollback", "abort", "adopt", "replay"])
def test_a_reason_is_asked_for_and_an_operation_that_exists(wire: Wire, action: str) -> None:
    op_id = a_stuck_one(wire.world)
    wire.asked.clear()
    assert call(op_app, action, op_id)[0] == 2
    for empty in ("", "  "):
        code, body = call(op_app, action, op_id, "--reason", empty)
        assert (code, body["errors"][0]["pointer"]) == (2, "/reason")
    assert wire.asked == [], "nothing was asked of the API"
    code, body = call(op_app, action, "op-s-unknown-0001", *WHY)
    assert (code, body["status"]) == (2, 404)


@pytest.mark.parametrize("action", ["retry", "skip", "adopt"])
def test_what_does_not_wait_for_an_operator_refuses(wire: Wire, action: str) -> None:
    space_id = asyncio.run(paid(wire.world, script=Script(duration_s=600)))
    asyncio.run(wire.world.pump())
    code, body = call(op_app, action, f"op-{space_id}-0001", *WHY)
    assert (code, body["status"]) == (3, 409)
    assert body["type"].endswith("/transition-not-allowed")


def test_a_step_that_does_not_exist_is_bad_input(wire: Wire) -> None:
    op_id = a_stuck_one(wire.world)
    assert call(op_app, "retry", op_id, *WHY, "--from", "nowhere")[0] == 2
    assert call(op_app, "retry", op_id, *WHY, "--from", "activate")[0] == 3


def test_an_empty_reason_is_refused_by_the_api_too(wire: Wire) -> None:
    op_id = a_stuck_one(wire.world)
    wrong = ({}, {"reason": ""}, {"reason": "  "}, {"reason": "x" * 501}, {"reason": 1})
    for number, body in enumerate(wrong):
        key = {"idempotency-key": f"k-{number}"}
        status, raw = wire.raw("POST", f"/operations/{op_id}/retry", body=body, headers=key)
        assert status == 400, raw


@pytest.mark.parametrize("scope", [["space", "acme"], ["cluster", "france"], ["fleet"]])
def test_a_pause_and_its_end(wire: Wire, scope: list[str]) -> None:
    space_id = asyncio.run(paid(wire.world, script=Script(duration_s=5)))
    asyncio.run(wire.world.pump())
    op_id = f"op-{space_id}-0001"
    code, body = call(pause_app, *scope, *WHY, "--dry-run")
    assert (code, body["dry_run"], body["operations"]) == (0, True, [op_id])
    assert call(pause_app, "list") == (0, {"items": []})
    code, body = call(pause_app, *scope, *WHY)
    assert (code, body["paused"], body["reason"]) == (0, True, "seen and mended")
    code, body = call(pause_app, "list")
    assert [(one["scope"], one["operations"]) for one in body["items"]] == [(scope[0], [op_id])]
    assert call(pause_app, *scope, *WHY)[0] == 3, "it is paused already"
    assert call(pause_app, *scope, *WHY, "--dry-run")[0] == 3
    for _ in range(30):
        call(op_app, "show", op_id)
    assert status_of(wire.world, op_id) is Status.REQUESTED
    code, body = call(unpause_app, *scope, *WHY)
    assert (code, body["paused"]) == (0, False)
    assert call(unpause_app, *scope, *WHY)[0] == 3
    for _ in range(30):
        call(op_app, "show", op_id)
    assert status_of(wire.world, op_id) is Status.ACTIVE


def test_what_is_not_there_cannot_be_paused(wire: Wire) -> None:
    assert call(pause_app, "space", "nobody", *WHY)[0] == 2
    assert call(pause_app, "cluster", "atlantis", *WHY)[0] == 2
    assert call(unpause_app, "cluster", "atlantis", *WHY)[0] == 2
    for scope in (["space", "acme"], ["cluster", "france"], ["fleet"]):
        for app in (pause_app, unpause_app):
            assert call(app, *scope)[0] == 2
            assert call(app, *scope, "--reason", " ")[0] == 2
