"""What the app declares, read from the bindings the worker library indexed.

Pure. What this host cannot do as Azure does is refused here, with the function's name, rather than
half done: other triggers, other bindings than outputs to Service Bus. A disabled function is
checked like any other.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from local.errors import Code, StackError
from local.functions_host.outputs import Output, read_output
from local.functions_host.queues.port import SUBSCRIPTIONS
from local.functions_host.retries import RetryPolicy, read_policy
from local.functions_host.settings import connection_string, resolved
from local.functions_host.timers.schedule import Schedule, parse
from local.functions_host.web.routes import Template, compile_template

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from local.functions_host.settings import HostSettings
    from local.functions_host.worker.library import Indexed

METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"})
# Paths the host keeps for itself; Azure refuses functions there too.
_BUILT_IN = ("admin", "runtime")


class Level(IntEnum):
    """Authorization levels; a key opens its own level and those below."""

    ANONYMOUS = 0
    FUNCTION = 1
    ADMIN = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpTrigger:
    """Fired by a request; `route` is the template with the prefix, as the app wrote it."""

    route: str
    template: Template
    methods: frozenset[str]
    level: Level


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueTrigger:
    """Fired by one message of a Service Bus queue, or of `TOPIC/subscriptions/NAME`.

    Both may end with `/$deadletterqueue`.
    """

    queue: str
    connection: str
    auto_complete: bool
    is_batch: bool = False
    has_sessions: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerTrigger:
    """Fired by the clock."""

    schedule: Schedule
    run_on_startup: bool
    monitor: bool


Trigger = HttpTrigger | QueueTrigger | TimerTrigger


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One function of the app. `parameter` is the argument that receives the trigger's data."""

    name: str
    id: str
    parameter: str
    trigger: Trigger
    bindings: tuple[dict[str, Any], ...]
    disabled: bool
    retry: RetryPolicy | None = None
    outputs: tuple[Output, ...] = ()


def declared(
    indexed: Sequence[Indexed], settings: HostSettings, environ: Mapping[str, str]
) -> list[Function]:
    """All functions of an app, checked.

    Raises:
        StackError: something this host does not do, or a setting that is missing; names the function.
    """
    functions = [_function(one, settings, environ) for one in indexed]
    _refuse_twins(functions)
    return functions


def _function(one: Indexed, settings: HostSettings, environ: Mapping[str, str]) -> Function:
    where = f"Function {one.name!r}"
    bindings = tuple(json.loads(raw) for raw in one.raw_bindings)
    triggers = [b for b in bindings if str(b["type"]).lower().endswith("trigger")]
    if len(triggers) != 1:
        raise _refusal(where, f"it has {len(triggers)} triggers, and needs exactly one")
    outputs: list[Output] = []
    for binding in bindings:
        if binding is triggers[0] or str(binding["type"]).lower() == "http":
            continue
        output = read_output(binding, environ, where=where)
        if output is None:
            raise _refusal(
                where, f"the binding {binding['type']!r} ({binding['name']}) is not served"
            )
        outputs.append(output)
    try:
        retry = None if one.retry_options is None else read_policy(one.retry_options)
    except ValueError as error:
        raise _refusal(where, f"its retry policy is malformed: {error}") from error
    return Function(
        name=one.name,
        id=one.id,
        parameter=triggers[0]["name"],
        trigger=_trigger(one.name, triggers[0], settings, environ),
        bindings=bindings,
        disabled=_is_disabled(one.name, environ),
        retry=retry,
        outputs=tuple(outputs),
    )


def _is_disabled(name: str, environ: Mapping[str, str]) -> bool:
    # Shells without dots in names write them as two underscores.
    keys = (f"AzureWebJobs.{name}.Disabled", f"AzureWebJobs__{name}__Disabled")
    return any(environ.get(key, "").lower() in ("true", "1") for key in keys)


def _trigger(
    name: str, binding: dict[str, Any], settings: HostSettings, environ: Mapping[str, str]
) -> Trigger:
    where = f"Function {name!r}"
    match str(binding["type"]).lower():
        case "httptrigger":
            return _http(name, binding, settings, where)
        case "servicebustrigger":
            return _queue(binding, settings, environ, where)
        case "timertrigger":
            return _timer(binding, environ, where)
        case _:
            raise _refusal(where, f"the trigger {binding['type']!r} is not served")


def _http(
    name: str, binding: dict[str, Any], settings: HostSettings, where: str
) -> HttpTrigger:
    own = str(binding.get("route") or name).strip("/")
    route = "/".join(part for part in (settings.route_prefix, own) if part)
    if route.split("/")[0].lower() in _BUILT_IN:
        raise _refusal(where, f"the route {route!r} lies under a path of the host itself")
    try:
        template = compile_template(route)
    except ValueError as error:
        raise _refusal(where, f"the route {route!r} is malformed: {error}") from error
    level = str(binding.get("authLevel") or "FUNCTION").upper()
    if level not in Level.__members__:
        raise _refusal(where, f"the authorization level {level!r} is unknown")
    methods = frozenset(str(m).upper() for m in binding.get("methods") or METHODS)
    if not methods <= METHODS:
        raise _refusal(where, f"the methods {sorted(methods - METHODS)} are unknown")
    return HttpTrigger(route=route, template=template, methods=methods, level=Level[level])


def _queue(
    binding: dict[str, Any], settings: HostSettings, environ: Mapping[str, str], where: str
) -> QueueTrigger:
    topic, subscription = binding.get("topicName"), binding.get("subscriptionName")
    if not binding.get("queueName") and not (topic and subscription):
        raise _refusal(where, "it names neither a queue nor a topic and its subscription")
    cardinality = str(binding.get("cardinality") or "ONE").upper()
    if cardinality not in ("ONE", "MANY"):
        raise _refusal(where, f"the cardinality {cardinality!r} is unknown")
    is_batch, has_sessions = cardinality == "MANY", bool(binding.get("isSessionsEnabled"))
    entity = str(binding.get("queueName") or f"{topic}{SUBSCRIPTIONS}{subscription}")
    chosen = binding.get("autoCompleteMessages")
    return QueueTrigger(
        queue=resolved(entity, environ, where=where),
        connection=connection_string(
            resolved(str(binding.get("connection") or "ServiceBus"), environ, where=where),
            environ,
            where=where,
        ),
        auto_complete=settings.auto_complete if chosen is None else bool(chosen),
        is_batch=is_batch,
        has_sessions=has_sessions,
    )


def _timer(binding: dict[str, Any], environ: Mapping[str, str], where: str) -> TimerTrigger:
    text = resolved(str(binding["schedule"]), environ, where=where)
    try:
        schedule = parse(text)
    except ValueError as error:
        raise _refusal(where, f"the schedule {text!r} is malformed: {error}") from error
    wanted = binding.get("useMonitor")
    return TimerTrigger(
        schedule=schedule,
        run_on_startup=bool(binding.get("runOnStartup")),
        monitor=(wanted is None or bool(wanted)) and not schedule.may_fire_twice_a_minute,
    )


def _refuse_twins(functions: list[Function]) -> None:
    seen: dict[tuple[str, str], str] = {}
    for function in functions:
        if isinstance(function.trigger, HttpTrigger):
            for method in function.trigger.methods:
                key = (function.trigger.template.shape, method)
                if key in seen:
                    raise _refusal(
                        f"Function {function.name!r}",
                        f"{method} {function.trigger.route!r} belongs to {seen[key]!r} already",
                    )
                seen[key] = function.name


def _refusal(where: str, what: str) -> StackError:
    return StackError(f"{where}: {what}.", code=Code.BAD_INPUT)
