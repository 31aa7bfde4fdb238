"""`kpax billing send` says what the billing system would say, and `kpax alarm` what is wrong."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import azure.functions as func
import msgspec
import pytest
from typer.testing import CliRunner

from provisioning import alarms, cli, orders, reconcile, watching
from provisioning.billing import TYPES, read
from provisioning.cli import alarm_app, billing_app
from provisioning.speaking import FIELDS, Book
from spaces import http
from spaces.client import Client, Endpoint
from spaces.model import Status
from tests.builders import a_billing_event
from tests.fakes import a_subscription
from tests.provisioning.test_reconcile import a_world
from tests.provisioning.world import World

if TYPE_CHECKING:
    from pathlib import Path


ORDER: dict[str, object] = {
    "order_id": "o-abc",
    "space_id": "s-abc",
    "plan": "standard",
    "country": "KE",
    "customer_ref": "c-7",
}


class Speaking:
    """Runs the command with a queue that keeps what it gets."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[dict[str, Any]] = []
        self.home = home
        where = Endpoint(url="http://x", function_key="k", bus_connection="c", home=str(home))
        monkeypatch.setattr(cli, "endpoint", lambda: where)
        monkeypatch.setattr(cli, "connect", lambda: self)
        monkeypatch.setattr(cli, "_put_on_queue", self._put)

    def get(self, path: str) -> dict[str, object]:
        assert path == "/orders/o-abc"
        return ORDER

    async def _put(self, connection: str, body: dict[str, Any]) -> None:
        self.sent.append(body)

    def __call__(self, *args: str, code: int = 0) -> Any:
        result = CliRunner().invoke(billing_app, ["send", *args, "--json"])
        assert result.exit_code == code, result.output
        return json.loads(result.stdout) if result.stdout.strip() else None


@pytest.fixture
def speak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Speaking:
    return Speaking(tmp_path, monkeypatch)


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_every_type_can_be_said_and_is_understood(speak: Speaking, kind: str) -> None:
    for word in (kind, kind.rpartition(".")[2]):
        speak(word, "--order", "o-abc")
    for number, body in enumerate(speak.sent, start=1):
        told = read(json.dumps(body).encode())
        assert told.state is not None
        assert (told.type, told.order_id, told.state.sequence) == (kind, "o-abc", number)
        assert (told.subject, told.state.country) == ("sub-o-abc", "KE")


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("activated", "active"),
        ("suspended", "suspended"),
        ("resumed", "active"),
        ("cancelled", "cancelled"),
        ("deleted", "deleted"),
        ("payment_failed", "past_due"),
        ("trial_ending", "trialing"),
        ("disputed", "past_due"),
        ("country_changed", "past_due"),
    ],
)
def test_a_type_says_its_status_or_leaves_it_as_it_was(
    speak: Speaking, word: str, status: str
) -> None:
    speak("payment_failed", "--order", "o-abc")
    speak(word, "--order", "o-abc")
    assert speak.sent[-1]["data"]["snapshot"]["status"] == status


def test_what_was_set_once_stays_until_it_is_set_again(speak: Speaking) -> None:
    speak("plan_changed", "--order", "o-abc", "--set", "plan=premium", "--set", "quantity=3")
    speak("suspended", "--subject", "sub-o-abc")
    snapshot = speak.sent[-1]["data"]["snapshot"]
    assert (snapshot["plan"], snapshot["quantity"], snapshot["status"]) == (
        "premium", 3, "suspended",
    )  # fmt: skip
    assert "order_id" not in speak.sent[-1]["data"]


def test_an_older_sequence_does_not_change_what_billing_lists(speak: Speaking) -> None:
    speak("activated", "--order", "o-abc", "--sequence", "7")
    speak("suspended", "--order", "o-abc", "--sequence", "3")
    book = Book(speak.home / "billing.json")
    known = book.known("sub-o-abc")
    assert known is not None
    assert (known["sequence"], known["order_id"], book.next_sequence("sub-o-abc")) == (
        7, "o-abc", 8,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("status=unpaid", "unpaid"),
        ("plan=premium", "premium"),
        ("quantity=12", 12),
        ("currency=USD", "USD"),
        ("country=GB", "GB"),
        ("period_end=2026-12-01", "2026-12-01T00:00:00Z"),
        ("period_end=2026-12-01T01:00:00+01:00", "2026-12-01T00:00:00Z"),
        ("grace_days=0", 0),
        ("legal_hold=true", True),
        ("customer_ref=c=9", "c=9"),
    ],
)
def test_every_field_can_be_set(speak: Speaking, text: str, value: object) -> None:
    speak("activated", "--order", "o-abc", "--set", text)
    snapshot = speak.sent[0]["data"]["snapshot"]
    assert snapshot[text.partition("=")[0]] == value
    assert set(snapshot) == set(FIELDS)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["exploded", "--order", "o-abc"], "plan_changed"),
        (["activated", "--order", "o-abc", "--set", "colour=red"], "period_end"),
        (["activated", "--order", "o-abc", "--set", "plan"], "period_end"),
        (["activated", "--order", "o-abc", "--set", "plan=golden"], "premium"),
        (["activated", "--order", "o-abc", "--set", "status=happy"], "past_due"),
        (["activated", "--order", "o-abc", "--set", "quantity=-1"], "2147483647"),
        (["activated", "--order", "o-abc", "--set", "quantity=many"], "quantity"),
        (["activated", "--order", "o-abc", "--set", "legal_hold=yes"], "true or false"),
        (["activated", "--order", "o-abc", "--set", "period_end=soon"], "period_end"),
        (["activated"], "--order or --subject"),
        (["activated", "--order", "o-abc", "--sequence", "1", "--no-sequence"], "exclude"),
    ],
)
def test_what_cannot_be_said_is_refused_and_says_what_can(
    speak: Speaking, args: list[str], words: str
) -> None:
    problem = speak(*args, code=2)
    assert words in json.dumps(problem)
    assert speak.sent == []


def test_a_hint_has_no_sequence_and_no_state(speak: Speaking) -> None:
    speak("invoice.paid", "--subject", "sub-9", "--no-sequence", "--event-id", "e-1")
    assert speak.sent[0]["data"] == {}
    assert read(json.dumps(speak.sent[0]).encode()).state is None


def test_a_book_that_is_none_is_named(speak: Speaking) -> None:
    (speak.home / "billing.json").write_text("[1, 2]")
    assert "no list of subscriptions" in json.dumps(
        speak("activated", "--order", "o-abc", code=2)
    )


# --- over the HTTP layer --------------------------------------------------------------------


HANDLERS = {
    "/billing/reconciliations": ("billing_reconcile", watching.reconcile_now),
    "/alarms": ("alarms_list", watching.list_alarms),
    "/alarms/x/close": ("alarms_close", watching.close_alarm),
}


class Asking:
    """The commands that ask the system, over its real endpoints."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(http, "ports", lambda: world.ports)
        monkeypatch.setattr(Client, "raw", self._raw)
        where = Endpoint(url="http://x", function_key="api-key-of-nobody")
        monkeypatch.setattr(cli, "connect", lambda: Client(where))

    def _raw(
        self,
        method: str,
        path: str,
        *,
        body: object | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        bare, _, query = path.partition("?")
        parts = bare.split("/")
        params = {"alarm_id": parts[2]} if len(parts) == 4 else {}
        name, handler = HANDLERS["/alarms/x/close" if params else bare]
        (operation,) = [one for one in http.OPERATIONS if one.name == name]
        request = func.HttpRequest(
            method=method,
            url=path,
            headers={
                "x-functions-key": "api-key-of-nobody",
                "content-type": "application/json",
                **(headers or {}),
            },
            params=dict(part.split("=") for part in query.split("&") if part),
            route_params=params,
            body=json.dumps(body).encode() if body is not None else b"",
        )
        answer = asyncio.run(http._serve(operation, handler, request))
        return answer.status_code, answer.get_body()

    def __call__(self, app: Any, *args: str, code: int = 0) -> Any:
        result = CliRunner().invoke(app, [*args, "--json"])
        assert result.exit_code == code, result.output
        return json.loads(result.stdout) if result.stdout.strip() else None


def test_a_comparison_is_asked_for_and_its_alarm_is_listed_and_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, billing = a_world(a_subscription(order_id="o-neverplaced"))
    order = asyncio.run(world.order())
    billing.tell(a_subscription("sub-2", order_id=order.order_id))
    ask = Asking(world, monkeypatch)

    dry = ask(billing_app, "reconcile", "--dry-run")
    assert sorted(one["outcome"] for one in dry["items"]) == ["seen", "would-heal"]
    assert ask(alarm_app, "list", "--all")["items"] == []

    real = ask(billing_app, "reconcile")
    assert (real["complete"], real["subscriptions"], real["spaces"]) == (True, 2, 1)
    assert sorted(one["outcome"] for one in real["items"]) == ["healed", "seen"]
    asyncio.run(world.settle())
    assert asyncio.run(world.space(order.space_id)).status is Status.ACTIVE

    assert ask(alarm_app, "list")["items"] == []  # only seen so far
    world.clock.advance(300)
    asyncio.run(reconcile.look_again(world.ports))
    (alarm,) = ask(alarm_app, "list")["items"]
    assert (alarm["kind"], alarm["about"]) == ("paid-without-space", "sub-1")

    ask(alarm_app, "close", "a-nothere", "--reason", "x", code=2)
    ask(alarm_app, "close", alarm["alarm_id"], "--reason", "", code=2)
    closed = ask(alarm_app, "close", alarm["alarm_id"], "--reason", "ordered by phone")
    assert (closed["closed_by"], closed["close_reason"]) == ("key:default", "ordered by phone")
    assert ask(alarm_app, "list")["items"] == []
    assert len(ask(alarm_app, "list", "--all")["items"]) == 1


def test_people_read_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    world, _ = a_world(a_subscription(order_id="o-neverplaced"))
    Asking(world, monkeypatch)
    text = CliRunner().invoke(billing_app, ["reconcile"]).stdout
    assert "1 subscriptions, 0 spaces." in text
    assert "paid-without-space" in text
    assert CliRunner().invoke(alarm_app, ["list"]).stdout == "No alarms.\n"
    everything = CliRunner().invoke(alarm_app, ["list", "--all"]).stdout
    assert "paid-without-space" in everything
    assert len(asyncio.run(alarms.everything(world.bare))) == 1


async def test_a_reason_stands_in_the_audit_entry_of_what_it_brings() -> None:
    world = World()
    asked = msgspec.structs.replace(
        world.order_request(jti="jti-1"), reason="asked for by phone"
    )
    order = await orders.place(world.bare, world.settings, asked, caller="key:ops", key="k-1")
    event = json.loads(a_billing_event(order_id=order.order_id))
    event["data"]["reason"] = "paid by transfer"
    await world.send(json.dumps(event))
    await world.settle()
    entries = await world.registry.audit_entries(order.space_id)
    told = " ".join(entries)
    assert "asked for by phone" in told
    assert "paid by transfer" in told


@pytest.mark.parametrize("strange", [None, 7, {"code": "x"}, " ", "x" * 600])
def test_an_event_is_not_refused_for_its_reason(strange: object) -> None:
    event = json.loads(a_billing_event())
    event["data"]["reason"] = strange
    because = read(json.dumps(event).encode()).because
    assert because is None or because == "x" * 500


def test_a_reason_is_sent_with_the_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speaking = Speaking(tmp_path, monkeypatch)
    speaking("activated", "--order", "o-abc", "--reason", "paid by transfer")
    assert speaking.sent[-1]["data"]["reason"] == "paid by transfer"


async def test_what_a_comparison_heals_keeps_why_it_was_asked_for() -> None:
    world, billing = a_world()
    order = await world.order()
    billing.tell(a_subscription(order_id=order.order_id))
    await reconcile.run(world.ports, because="month's end")
    entries = await world.registry.audit_entries(order.space_id)
    assert any("month's end" in entry for entry in entries)
