"""What `host.json` and the app settings say, checked before anything starts.

Pure: texts and mappings in, values or a `StackError` out. Defaults are those of the Functions host
4.x with the Service Bus extension 5.x; unknown keys are ignored, as on Azure.
"""

from __future__ import annotations

import json
import logging
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local.errors import Code, StackError

if TYPE_CHECKING:
    from collections.abc import Mapping

_LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "information": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
    "none": logging.CRITICAL + 10,
}
_SPAN = re.compile(r"(?:(\d+)\.)?(\d{1,2}):(\d{1,2}):(\d{1,2})(?:\.(\d{1,7}))?")
_NAMED = re.compile(r"%([^%\s]+)%")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """The part of `host.json` this host obeys."""

    route_prefix: str = "api"
    function_timeout_s: float | None = 1800.0
    max_concurrent_calls: int = 16
    auto_complete: bool = True
    max_renewal_s: float = 300.0
    prefetch: int = 0
    max_sessions: int = 8
    calls_per_session: int = 1
    session_idle_s: float = 60.0
    max_batch: int = 1000
    min_batch: int = 1
    batch_wait_s: float = 30.0
    dynamic_concurrency: bool = False
    log_level: int = logging.INFO


def read_host_json(text: str) -> HostSettings:
    """The settings in the text of a `host.json`.

    Raises:
        StackError: it is not JSON, or a value the host would obey is malformed.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise StackError(f"host.json is not JSON: {error}.", code=Code.BAD_INPUT) from error
    if not isinstance(document, dict) or document.get("version") != "2.0":
        raise StackError(
            'host.json must be an object with "version": "2.0".', code=Code.BAD_INPUT
        )
    bus = _section(document, "extensions", "serviceBus")
    max_batch = _positive(bus.get("maxMessageBatchSize", 1000), "maxMessageBatchSize")
    min_batch = _positive(bus.get("minMessageBatchSize", 1), "minMessageBatchSize")
    if min_batch > max_batch:
        raise StackError(
            "host.json: minMessageBatchSize is greater than maxMessageBatchSize.",
            code=Code.BAD_INPUT,
        )
    level = _section(document, "logging", "logLevel").get("default", "Information")
    return HostSettings(
        route_prefix=str(
            _section(document, "extensions", "http").get("routePrefix", "api")
        ).strip("/"),
        function_timeout_s=_timeout_s(document.get("functionTimeout", "00:30:00")),
        max_concurrent_calls=_positive(
            bus.get("maxConcurrentCalls", 16 * (os.cpu_count() or 1)), "maxConcurrentCalls"
        ),
        auto_complete=bool(bus.get("autoCompleteMessages", True)),
        max_renewal_s=_host_span_s(
            bus.get("maxAutoLockRenewalDuration", "00:05:00"), "maxAutoLockRenewalDuration"
        ),
        prefetch=_positive(bus.get("prefetchCount", 0), "prefetchCount", least=0),
        max_sessions=_positive(bus.get("maxConcurrentSessions", 8), "maxConcurrentSessions"),
        calls_per_session=_positive(
            bus.get("maxConcurrentCallsPerSession", 1), "maxConcurrentCallsPerSession"
        ),
        # Unset, the client's own patience counts: a minute.
        session_idle_s=_host_span_s(
            bus.get("sessionIdleTimeout") or "00:01:00", "sessionIdleTimeout"
        ),
        max_batch=max_batch,
        min_batch=min_batch,
        batch_wait_s=_host_span_s(
            bus.get("maxBatchWaitTime", "00:00:30"), "maxBatchWaitTime", most_s=150
        ),
        dynamic_concurrency=bool(
            _section(document, "concurrency").get("dynamicConcurrencyEnabled", False)
        ),
        log_level=_level(level),
    )


def span_s(text: str) -> float | None:
    """Seconds of a .NET time span `[d.]hh:mm:ss[.f]`; None when it is none.

    A first part of 24 or more counts days, as the timer trigger reads it: `24:00:00` is 24 days.
    """
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        return None
    days, first, second, third = (int(part or 0) for part in found.groups()[:4])
    fraction = float(f"0.{found[5] or 0}")
    if first >= 24:
        days, first, second, third = first, second, third, 0
    if first > 23 or second > 59 or third > 59:
        return None
    return days * 86_400 + first * 3_600 + second * 60 + third + fraction


def resolved(text: str, environ: Mapping[str, str], *, where: str) -> str:
    """`text` with every `%NAME%` replaced by the app setting of that name.

    Raises:
        StackError: a named setting does not exist or is empty.
    """

    def value(found: re.Match[str]) -> str:
        setting = environ.get(found[1], "")
        if not setting:
            raise StackError(
                f"{where}: the app setting {found[1]!r} is not set.",
                remedy="Set it in the environment of the host.",
                code=Code.BAD_INPUT,
            )
        return setting

    return _NAMED.sub(value, text)


def connection_string(name: str, environ: Mapping[str, str], *, where: str) -> str:
    """The connection string that a binding's `connection` names.

    Raises:
        StackError: there is none, or the setting asks for a managed identity.
    """
    for key in (name, f"AzureWebJobs{name}"):
        if environ.get(key):
            return environ[key]
    if environ.get(f"{name}__fullyQualifiedNamespace"):
        raise StackError(
            f"{where}: the connection {name!r} asks for a managed identity, which a laptop has not.",
            remedy=f"Give {name} a connection string.",
            code=Code.BAD_INPUT,
        )
    raise StackError(
        f"{where}: the connection setting {name!r} is not set.",
        remedy="Set it in the environment of the host.",
        code=Code.BAD_INPUT,
    )


def _section(document: dict[str, Any], *keys: str) -> dict[str, Any]:
    found: Any = document
    for key in keys:
        found = found.get(key, {})
        if not isinstance(found, dict):
            raise StackError(
                f"host.json: {'.'.join(keys)} must be an object.", code=Code.BAD_INPUT
            )
    return found


def _timeout_s(value: object) -> float | None:
    if value in ("-1", -1):
        return None
    return _host_span_s(value, "functionTimeout")


def _host_span_s(value: object, key: str, *, most_s: float | None = None) -> float:
    seconds = span_s(value) if isinstance(value, str) else None
    if not seconds:
        raise StackError(f"host.json: {key} must be a time span hh:mm:ss.", code=Code.BAD_INPUT)
    if most_s is not None and seconds > most_s:
        raise StackError(
            f"host.json: {key} must not be over {most_s:g} seconds.", code=Code.BAD_INPUT
        )
    return seconds


def _positive(value: object, key: str, *, least: int = 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise StackError(
            f"host.json: {key} must be a whole number from {least} up.", code=Code.BAD_INPUT
        )
    return value


def _level(value: object) -> int:
    level = _LEVELS.get(str(value).lower())
    if level is None:
        raise StackError(
            f"host.json: logLevel.default must be one of {', '.join(_LEVELS)}.",
            code=Code.BAD_INPUT,
        )
    return level
