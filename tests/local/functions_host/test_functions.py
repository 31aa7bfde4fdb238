from __future__ import annotations

import json
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from local.errors import StackError
from local.functions_host.functions import (
    HttpTrigger,
    Level,
    QueueTrigger,
    TimerTrigger,
    Trigger,
    declared,
)
from local.functions_host.settings import HostSettings
from local.functions_host.worker.library import Indexed

_SETTINGS = HostSettings(route_prefix="", auto_complete=True)
_ENVIRON = {"ServiceBus": "Endpoint=sb://x", "QUEUE": "orders", "NIGHT": "0 0 2 * * *"}


def _indexed(*bindings: dict[str, Any], name: str = "f", retry: object = None) -> Indexed:
    return Indexed(name, f"id-{name}", tuple(json.dumps(b) for b in bindings), retry)


def _http(**more: object) -> dict[str, Any]:
    return {"type": "httpTrigger", "name": "req", "authLevel": "FUNCTION", **more}


def _queue(**more: object) -> dict[str, Any]:
    return {
        "type": "serviceBusTrigger",
        "name": "msg",
        "queueName": "q",
        "connection": "ServiceBus",
        **more,
    }


def _timer(**more: object) -> dict[str, Any]:
    return {"type": "timerTrigger", "name": "t", "schedule": "0 0 2 * * *", **more}


def _retry(strategy: str = "fixed_delay", **more: object) -> SimpleNamespace:
    """What the worker library makes of a retry decorator."""
    options = {"max_retry_count": 3, "delay_interval": timedelta(seconds=5), **more}
    return SimpleNamespace(retry_strategy=strategy, **options)


def _trigger(binding: dict[str, Any], settings: HostSettings = _SETTINGS) -> Trigger:
    return declared([_indexed(binding)], settings, _ENVIRON)[0].trigger


def test_an_http_trigger_without_a_route_is_reached_by_its_name_and_every_method() -> None:
    trigger = _trigger(_http())
    assert isinstance(trigger, HttpTrigger)
    assert trigger.route == "f"
    assert {"GET", "POST", "DELETE", "PATCH"} <= trigger.methods
    assert trigger.level is Level.FUNCTION


def test_the_route_prefix_stands_before_every_route() -> None:
    trigger = _trigger(_http(route="/spaces/"), HostSettings(route_prefix="api"))
    assert trigger.route == "api/spaces"


def test_a_queue_trigger_resolves_its_settings() -> None:
    trigger = _trigger(_queue(queueName="%QUEUE%"))
    assert isinstance(trigger, QueueTrigger)
    assert (trigger.queue, trigger.connection) == ("orders", "Endpoint=sb://x")


@pytest.mark.parametrize(
    ("own", "host", "expected"),
    [(None, True, True), (None, False, False), (False, True, False), (True, False, True)],
)
def test_a_trigger_s_own_auto_complete_wins_over_the_host_s(
    own: bool | None, host: bool, expected: bool
) -> None:
    more = {} if own is None else {"autoCompleteMessages": own}
    trigger = _trigger(_queue(**more), HostSettings(auto_complete=host))
    assert trigger.auto_complete is expected


@pytest.mark.parametrize("cardinality", ["one", "MANY"])
@pytest.mark.parametrize("sessions", [False, True])
def test_a_queue_trigger_says_whether_it_takes_batches_and_sessions(
    cardinality: str, sessions: bool
) -> None:
    trigger = _trigger(_queue(cardinality=cardinality, isSessionsEnabled=sessions))
    assert isinstance(trigger, QueueTrigger)
    assert (trigger.is_batch, trigger.has_sessions) == (cardinality == "MANY", sessions)


def test_a_topic_trigger_listens_to_its_subscription() -> None:
    binding = _queue(queueName=None, topicName="%QUEUE%", subscriptionName="all")
    trigger = _trigger(binding)
    assert isinstance(trigger, QueueTrigger)
    assert trigger.queue == "orders/subscriptions/all"


def test_outputs_to_queues_and_topics_are_read_with_their_settings() -> None:
    out = {"type": "serviceBus", "direction": "OUT", "connection": "ServiceBus"}
    one = {**out, "name": "a", "queueName": "%QUEUE%"}
    two = {**out, "name": "$return", "topicName": "news"}
    found = declared([_indexed(_timer(), one, two)], _SETTINGS, _ENVIRON)[0].outputs
    assert [(o.parameter, o.entity, o.is_topic) for o in found] == [
        ("a", "orders", False),
        ("$return", "news", True),
    ]
    missing = {**one, "connection": "Nowhere"}
    with pytest.raises(StackError, match=r"Function 'f'.*'Nowhere' is not set"):
        declared([_indexed(_timer(), missing)], _SETTINGS, _ENVIRON)


@pytest.mark.parametrize(
    ("more", "monitor"),
    [
        ({}, True),
        ({"schedule": "%NIGHT%"}, True),
        ({"useMonitor": False}, False),
        ({"schedule": "*/15 * * * * *"}, False),
        ({"schedule": "*/15 * * * * *", "useMonitor": True}, False),
    ],
)
def test_a_timer_is_monitored_unless_it_says_no_or_is_too_fast(
    more: dict[str, Any], monitor: bool
) -> None:
    trigger = _trigger(_timer(**more))
    assert isinstance(trigger, TimerTrigger)
    assert trigger.monitor is monitor


@pytest.mark.parametrize(
    ("environ", "disabled"),
    [
        ({}, False),
        ({"AzureWebJobs.f.Disabled": "true"}, True),
        ({"AzureWebJobs.f.Disabled": "1"}, True),
        ({"AzureWebJobs__f__Disabled": "True"}, True),
        ({"AzureWebJobs.f.Disabled": "false"}, False),
        ({"AzureWebJobs.other.Disabled": "true"}, False),
    ],
)
def test_a_function_is_disabled_by_its_app_setting(
    environ: dict[str, str], disabled: bool
) -> None:
    assert declared([_indexed(_http())], _SETTINGS, environ)[0].disabled is disabled


@pytest.mark.parametrize(
    ("indexed", "word"),
    [
        (_indexed({"type": "blobTrigger", "name": "b"}), "blobTrigger"),
        (_indexed({"type": "http", "name": "$return"}), "0 triggers"),
        (_indexed(_http(), _timer()), "2 triggers"),
        (_indexed(_timer(), {"type": "serviceBus", "name": "out"}), r"serviceBus.*out"),
        (_indexed(_queue(queueName=None, topicName="t")), "its subscription"),
        (_indexed(_timer(), {"type": "blob", "name": "b", "direction": "OUT"}), "blob"),
        (_indexed(_queue(cardinality="SOME")), "cardinality 'SOME'"),
        (_indexed(_queue(connection="Nowhere")), "'Nowhere' is not set"),
        (_indexed(_queue(queueName="%NONE%")), "'NONE' is not set"),
        (_indexed(_timer(schedule="never")), "'never' is malformed"),
        (_indexed(_timer(schedule="%NONE%")), "'NONE' is not set"),
        (_indexed(_timer(), retry=_retry("by_and_by")), "retry policy.*'by_and_by'"),
        (_indexed(_timer(), retry=_retry(max_retry_count=0)), "retry policy.*max_retry_count"),
        (_indexed(_http(route="admin/x")), "the host itself"),
        (_indexed(_http(route="a/{")), "malformed"),
        (_indexed(_http(authLevel="USER")), "USER"),
        (_indexed(_http(methods=["BREW"])), "BREW"),
    ],
)
def test_what_is_not_served_is_refused_with_the_function_s_name(
    indexed: Indexed, word: str
) -> None:
    with pytest.raises(StackError, match=rf"Function 'f': .*{word}"):
        declared([indexed], _SETTINGS, _ENVIRON)


def test_two_functions_cannot_have_one_route_and_method() -> None:
    first = _indexed(_http(route="a/{id}", methods=["GET", "POST"]), name="first")
    same = _indexed(_http(route="A/{key}", methods=["POST"]), name="same")
    other = _indexed(_http(route="a/{id}", methods=["PUT"]), name="other")
    assert len(declared([first, other], _SETTINGS, {})) == 2
    with pytest.raises(StackError, match=r"Function 'same': POST .* belongs to 'first'"):
        declared([first, same], _SETTINGS, {})
