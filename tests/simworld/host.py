"""The Functions host: the registered functions of `function_app.app`, called as its worker does.

The functions are the shipped ones, unchanged; messages, timers and requests are the objects that
the worker library makes. Only `spaces.wiring` opens other ports.
"""

from __future__ import annotations

import functools
import logging
import os
import re
from bisect import bisect_right
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from unittest import mock

import azure.functions as func
from azure.functions.servicebus import ServiceBusMessage
from azure.functions.timer import TimerRequest

import backups.plans
from local.functions_host.timers.schedule import Schedule, parse
from spaces.settings import settings
from tests.builders import some_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backups.engine import Engine
    from spaces.ports import Ports
    from tests.fakes import Received
    from tests.simworld.world import World

ENVIRONMENT = some_environment(
    KPAX_POLL_FLOOR_S="0.5",
    KPAX_SWEEP_SCHEDULE="0 * * * * *",
    KPAX_BACKUP_SCHEDULE="0 0 2 * * *",
    KPAX_RECONCILE_SCHEDULE="0 23 * * * *",
)
KEY = ENVIRONMENT["KPAX_API_KEY"]

# The world whose handlers run now: what `spaces.wiring` opens is its ports.
CURRENT: World | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """An HTTP function: method, a pattern of its path, and the function."""

    method: str
    pattern: re.Pattern[str]
    call: Callable[[func.HttpRequest], Awaitable[func.HttpResponse]]
    name: str


@dataclass(frozen=True, slots=True)
class Timer:
    """A timer function and when it fires."""

    name: str
    schedule: Schedule
    call: Callable[[func.TimerRequest], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class App:
    """All functions of the app, by what triggers them."""

    queues: dict[str, Callable[[func.ServiceBusMessage], Awaitable[None]]]
    timers: dict[str, Timer]
    routes: tuple[Route, ...]


@functools.cache
def app() -> App:
    """The functions as `function_app` registers them."""
    from tests.functions import functions  # noqa: PLC0415 - its settings are in the environment by now

    queues: dict[str, Any] = {}
    timers: dict[str, Timer] = {}
    routes: list[Route] = []
    for function in functions().values():
        trigger, call = function.get_trigger().get_dict_repr(), function.get_user_function()
        name = function.get_function_name()
        match trigger["type"]:
            case "serviceBusTrigger":
                queues[trigger["queueName"]] = call
            case "timerTrigger":
                schedule = re.sub(
                    r"%(\w+)%", lambda found: os.environ[found[1]], trigger["schedule"]
                )
                timers[name] = Timer(name, parse(schedule), call)
            case "httpTrigger":
                pattern = re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", trigger["route"])
                routes += [
                    Route(str(method.value), re.compile(f"/{pattern}"), call, name)
                    for method in trigger["methods"]
                ]
            case other:
                raise AssertionError(f"{name} has a trigger of type {other}")
    return App(queues, timers, tuple(routes))


@contextmanager
def in_place() -> Iterator[None]:
    """The environment of the app, and the doors of the current world where it opens its own.

    Besides the ports these are the two doors of backups: the engine, and the databases' data.
    """
    alarms = Alarms(logging.ERROR)
    quiet = logging.getLogger("kpax")
    before = (quiet.level, quiet.propagate)
    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, ENVIRONMENT))
        for patch in (
            mock.patch("spaces.wiring._opened", _opened),
            mock.patch("backups.places.PostgresData", _Data),
            mock.patch("backups.places.Places.engine", _engine),
        ):
            stack.enter_context(patch)
        _forget()
        stack.callback(_forget)
        quiet.addHandler(alarms)
        quiet.setLevel(logging.ERROR)
        quiet.propagate = False
        try:
            yield
        finally:
            quiet.removeHandler(alarms)
            quiet.level, quiet.propagate = before
            globals()["CURRENT"] = None


@contextmanager
def polling(floor_s: str) -> Iterator[None]:
    """Another shortest pause between two looks, inside of `in_place`."""
    with mock.patch.dict(os.environ, KPAX_POLL_FLOOR_S=floor_s):
        settings.cache_clear()
        try:
            yield
        finally:
            settings.cache_clear()


def current() -> World:
    """The world whose handlers run now."""
    assert CURRENT is not None, "no world runs"
    return CURRENT


def _opened() -> tuple[None, Ports]:
    return None, current().ports


def _engine(*_: object) -> Engine:
    return current().engine


class _Data:
    """The databases' data of the current world."""

    def __init__(self, *_: object) -> None:
        """Made once in a process, whatever world then runs."""

    def __getattr__(self, name: str) -> Any:
        return getattr(current().data, name)


class Alarms(logging.Handler):
    """Keeps what the app logs as an error, which on the platform is an alarm."""

    def emit(self, record: logging.LogRecord) -> None:
        if CURRENT is not None:
            space = str(getattr(record, "space", ""))
            CURRENT.rules.alarms.setdefault(space, set()).add(record.getMessage())


def _forget() -> None:
    """Nothing of another environment is remembered."""
    settings.cache_clear()
    backups.plans.plans.cache_clear()


def message(item: Received) -> ServiceBusMessage:
    """What the worker gives to a Service Bus function."""
    properties = dict(item.message.properties)
    return ServiceBusMessage(
        body=item.body,
        application_properties=properties,
        user_properties={},
        content_type="application/json",
        delivery_count=item.delivery_count,
        enqueued_time_utc=item.enqueued_at,
        locked_until=item.locked_until,
        message_id=item.message.message_id,
        sequence_number=item.number,  # pyright: ignore[reportAttributeAccessIssue]
        dead_letter_reason=item.reason,
        dead_letter_error_description=item.description,
    )


def tick(*, past_due: bool = False) -> TimerRequest:
    """What the worker gives to a timer function."""
    return TimerRequest(past_due=past_due)


def request(
    method: str, path: str, body: bytes, headers: dict[str, str]
) -> tuple[Route, func.HttpRequest]:
    """What the worker gives to the HTTP function of this path; `LookupError` where none is."""
    path, _, query = path.partition("?")
    for route in app().routes:
        found = route.pattern.fullmatch(path)
        if found is not None and route.method == method:
            asked = func.HttpRequest(
                method=method,
                url=f"http://kpax.localhost{path}",
                headers={"x-functions-key": KEY, "content-type": "application/json", **headers},
                params=dict(pair.split("=", 1) for pair in query.split("&") if pair),
                route_params=found.groupdict(),
                body=body,
            )
            return route, asked
    raise LookupError(f"no function answers {method} {path}")


def next_tick(timer: Timer, now: datetime) -> datetime:
    """When the timer fires next."""
    offsets = _of_a_day(timer.schedule)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    at = bisect_right(offsets, (now - midnight).total_seconds())
    if at < len(offsets):
        return midnight + timedelta(seconds=offsets[at])
    return midnight + timedelta(days=1, seconds=offsets[0])


@functools.cache
def _of_a_day(schedule: Schedule) -> tuple[float, ...]:
    """The ticks of each day in seconds; every timer of the app has a schedule of days."""
    assert schedule.cron.endswith("* * *"), schedule
    midnight = datetime(2026, 11, 23, tzinfo=UTC)
    found: list[float] = []
    at = schedule.next_after(midnight - timedelta(seconds=1))
    while at < midnight + timedelta(days=1):
        found.append((at - midnight).total_seconds())
        at = schedule.next_after(at)
    return tuple(found)
