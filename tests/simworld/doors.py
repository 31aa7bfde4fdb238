"""The doors between handlers and fakes: every call is counted, traced, held, and may go wrong.

Four things can go wrong with one call: it fails before its effect, its effect is there and the
answer is lost, the process dies before it, the process dies after it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from spaces.errors import (
    KpaxError,
    ThrottledError,
    TransientError,
    UnknownError,
    UnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from spaces.ports import Ports

PORTS = ("tables", "bus", "arm", "databases", "secrets", "keys", "edge", "accounts", "billing")
# Answers without I/O.
FREE = frozenset({"backup_of"})
# Calls whose effect may be there although no answer came: the port says so.
UNSURE = frozenset({"commit", "put_stack", "delete_stack"})


class Fault(StrEnum):
    """What goes wrong with one call."""

    FAIL = "fail"  # before its effect
    LOSE = "lose"  # its effect is there, its answer is lost
    DIE_BEFORE = "die-before"
    DIE_AFTER = "die-after"


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a port, as the trace and the comparison with the real stack name it."""

    port: str
    name: str
    told: str = ""

    def __str__(self) -> str:
        return f"{self.port}.{self.name} {self.told}".rstrip()


@dataclass(slots=True, eq=False)
class Process:
    """One run of a handler; `gates` are the calls that wait for the scheduler.

    A dead one is never let go on; one that is asleep goes on long after it lost its message.
    """

    name: str
    task: asyncio.Task[Any] | None = None
    is_dead: bool = False
    is_asleep: bool = False
    keeps_lock: bool = False
    gates: list[asyncio.Future[None]] = field(default_factory=list[asyncio.Future[None]])
    calls: int = 0

    def holds_lock(self) -> bool:
        """Whether the host renews the lock of its message."""
        return self.keeps_lock or not self.is_asleep


def error_of(call: Call, *, after: bool, throttled: bool = False) -> KpaxError:
    """The error that this port raises when a call fails, in the words of its contract."""
    if after and call.name in UNSURE:
        return UnknownError("the answer was lost", where=str(call))
    if throttled and call.port in {"tables", "bus", "arm", "accounts", "blobs", "backups"}:
        return ThrottledError("too many requests", retry_after_s=2, where=str(call))
    if call.port == "edge":
        return UnreachableError("nobody answers", where=str(call))
    return TransientError("the connection broke", where=str(call))


class Door:
    """A port behind which `enter` decides what happens to each call."""

    def __init__(self, port: str, target: Any, enter: Enter) -> None:
        self._port = port
        self._target = target
        self._enter = enter

    def __getattr__(self, name: str) -> Any:
        target = getattr(self._target, name)
        if name in FREE:
            return lambda *args: Door("backups", target(*args), self._enter)
        if not callable(target):
            return target
        if name == "list" and self._port in {"blobs", "backups"}:
            return lambda *args, **kwargs: self._listed(target, args, kwargs)

        async def call(*args: Any, **kwargs: Any) -> Any:
            told = Call(self._port, name, brief(name, args))
            result = await self._enter(told, target, args, kwargs)
            return Door("blobs", result, self._enter) if name == "of_space" else result

        return call

    async def _listed(self, target: Any, args: Any, kwargs: Any) -> AsyncIterator[Any]:
        async def all_of(*args: Any, **kwargs: Any) -> list[Any]:
            return [item async for item in target(*args, **kwargs)]

        told = Call(self._port, "list", brief("list", args))
        for item in await self._enter(told, all_of, args, kwargs):
            yield item


if TYPE_CHECKING:
    type Enter = Callable[[Call, Any, Any, Any], Any]


def behind_doors(ports: Ports, enter: Enter) -> Ports:
    """The ports with a door in front of each that does I/O."""
    there = {name: getattr(ports, name) for name in PORTS if hasattr(ports, name)}
    return replace(ports, **{name: Door(name, port, enter) for name, port in there.items()})


def brief(name: str, args: Any) -> str:
    """What a call is about, without secrets and without what differs between two homes."""
    match name:
        case "commit":
            keys = ",".join(f"{type(write).__name__[0]}:{_key(write.key)}" for write in args[2])
            return f"{args[0]} {keys}"
        case "get" if len(args) == 3:
            return f"{args[0]} {_key(args[2])}"
        case "query":
            return str(args[0])
        case "send":
            return " ".join(message.queue for message in args[0])
        case "get" | "create" | "put_version":
            return _secret(str(args[1])) if len(args) > 1 else ""
        case _:
            return ""


def _key(key: str) -> str:
    """The kind of a row: `in!`, `aud!`, `state`, never a random part."""
    return f"{key.partition('!')[0]}!" if "!" in key else key if key.isalpha() else "*"


def _secret(name: str) -> str:
    return "-".join(name.split("-")[:2])
