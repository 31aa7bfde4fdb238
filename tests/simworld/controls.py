"""Known-bad variants of the protocol: patches to the shipped runner, which a campaign must catch.

A, B, C, F, G and J are the variants of the model check (control-plane.md 4.2); the others take one
guard away each. The same campaigns find nothing in the shipped code.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from unittest import mock

import spaces.registry
import spaces.saga.begin
import spaces.saga.decide
import spaces.saga.late
import spaces.saga.runner
import spaces.saga.sweep
from spaces.errors import KpaxError
from spaces.model import Phase, Running
from spaces.ports import Insert, Replace, Stack, StackState
from spaces.registry import Registry
from spaces.saga.outcomes import Done
from tests.simworld import host
from tests.simworld.campaigns import CAMPAIGNS

if TYPE_CHECKING:
    from spaces.ports import Message, Ports, Write

FAR = timedelta(days=3_650)


@dataclass(frozen=True, slots=True)
class Control:
    """A variant, and the campaign that catches it."""

    name: str
    patch: Callable[[], AbstractContextManager[object]]
    campaign: str


def caught(control: Control) -> str:
    """What its campaign finds in the variant; empty when it finds nothing."""
    with control.patch():
        return CAMPAIGNS[control.campaign]()


# --- the variants of the model check


def write_then_send() -> AbstractContextManager[object]:
    """A: no outbox, and an old message is dropped."""
    return _together(
        _without_outbox(), mock.patch.object(spaces.saga.runner, "say_again", _says_nothing)
    )


def send_then_write() -> AbstractContextManager[object]:
    """B: the next message goes out first, and there is no outbox either."""
    real = Registry.commit

    async def commit(self: Registry, loaded: Any, change: Any, *, now: Any) -> list[Message]:
        _, promised, _ = spaces.registry._promises(change, now)
        await host.current().ports.bus.send(promised)
        await real(self, loaded, change, now=now)
        return []

    return _together(_without_outbox(), mock.patch.object(Registry, "commit", commit))


def blind_and_unguarded() -> AbstractContextManager[object]:
    """C: writes without ETag, and no look whether a message is old."""
    return _together(
        _blind(("aud!", "in!")),
        mock.patch.object(Running, "awaits", lambda self, _: self.stuck is None),
    )


def without_sweeper() -> AbstractContextManager[object]:
    """F: nobody looks for what was lost."""

    async def nobody(*_: object) -> int:
        return 0

    return mock.patch.object(spaces.saga.sweep, "_see_to", nobody)


def same_id() -> AbstractContextManager[object]:
    """G: a lost message is sent again under the id that the broker knows."""

    def known(message: Message, now: object, grace_s: object) -> Message:
        del now, grace_s
        return replace(message, due_at=None)

    return mock.patch.object(spaces.saga.sweep, "fresh", known)


def without_etag() -> AbstractContextManager[object]:
    """J: the protocol as it is, with blind writes; a cause may be applied twice as well."""
    return _blind(("aud!", "in!"))


def drop_if_match() -> AbstractContextManager[object]:
    """A space's rows are written over another version; only the inbox still guards them."""
    return _blind(("aud!",))


# --- one guard less each


def drop_undo() -> AbstractContextManager[object]:
    """Nothing is taken back on the way back."""
    real = spaces.saga.runner.perform

    async def perform(ports: Ports, plan: Any, work: Any) -> Any:
        if work.op.phase is Phase.UNDO:
            return Done(detail="nothing was undone")
        return await real(ports, plan, work)

    return mock.patch.object(spaces.saga.runner, "perform", perform)


def drop_deadline() -> AbstractContextManager[object]:
    """No step is ever late."""
    real = spaces.saga.decide.at_step

    def at_step(op: Running, at: int, plan: Any, now: Any) -> Running:
        return replace(real(op, at, plan, now), step_deadline_at=now + FAR)

    return _together(
        mock.patch.object(spaces.saga.decide, "at_step", at_step),
        mock.patch.object(spaces.saga.begin, "at_step", at_step),
    )


def unknown_is_absent() -> AbstractContextManager[object]:
    """A look that fails is taken as a look that shows nothing."""
    real = spaces.saga.runner.perform

    class Hopeful:
        def __init__(self, arm: Any) -> None:
            self._arm = arm

        def __getattr__(self, name: str) -> Any:
            return getattr(self._arm, name)

        async def get_stack(self, name: str) -> Stack:
            try:
                return await self._arm.get_stack(name)
            except KpaxError:
                return Stack(name=name, state=StackState.ABSENT)

    async def perform(ports: Ports, plan: Any, work: Any) -> Any:
        return await real(replace(ports, arm=Hopeful(ports.arm)), plan, work)

    return mock.patch.object(spaces.saga.runner, "perform", perform)


# --- what they are made of


def _together(*patches: AbstractContextManager[object]) -> AbstractContextManager[object]:
    stack = ExitStack()
    for patch in patches:
        stack.enter_context(patch)
    return stack


def _without_outbox() -> AbstractContextManager[object]:
    """The next message is promised nowhere; events still are."""
    real = spaces.registry._promises

    def promises(change: Any, now: Any) -> tuple[Any, list[Message], list[Write]]:
        space, messages, rows = real(change, now)
        return space, messages, [row for row in rows if row.key != "out!next"]

    return mock.patch.object(spaces.registry, "_promises", promises)


def _blind(over: tuple[str, ...]) -> AbstractContextManager[object]:
    """A space's rows are written over whatever is there; inserts of these kinds of rows too."""
    real = Registry.commit

    class Blind:
        def __init__(self, tables: Any) -> None:
            self._tables = tables

        def __getattr__(self, name: str) -> Any:
            return getattr(self._tables, name)

        async def commit(self, table: str, partition: str, writes: list[Write]) -> None:
            done = [_written_over(partition, one, over) for one in writes]
            await self._tables.commit(table, partition, done)

    async def commit(self: Registry, loaded: Any, change: Any, *, now: Any) -> list[Message]:
        return await real(Registry(Blind(self._tables)), loaded, change, now=now)

    return mock.patch.object(Registry, "commit", commit)


def _written_over(partition: str, write: Write, over: tuple[str, ...]) -> Write:
    """The same write, whatever version is there."""
    guards = isinstance(write, Replace) or write.key.startswith(over)
    if not guards or not isinstance(write, (Replace, Insert)):
        return write
    there = host.current().estate.tables.row(spaces.registry.SPACES, partition, write.key)
    if there is None:
        return Insert(write.key, write.values)
    return Replace(write.key, write.values, there.etag)


async def _says_nothing(*_: object) -> None:
    """An old message is dropped."""


CONTROLS: dict[str, Control] = {
    control.name: control
    for control in (
        Control("A", write_then_send, "single faults"),
        Control("B", send_then_write, "single faults"),
        Control("C", blind_and_unguarded, "overtaken processes"),
        Control("F", without_sweeper, "lost messages"),
        Control("G", same_id, "lost messages"),
        Control("J", without_etag, "overtaken processes"),
        Control("drop_if_match", drop_if_match, "overtaken processes"),
        Control("drop_outbox", _without_outbox, "single faults"),
        Control("drop_undo", drop_undo, "ways back"),
        Control("drop_deadline", drop_deadline, "hung stacks"),
        Control("resend_same_id", same_id, "lost messages"),
        Control("unknown_is_absent", unknown_is_absent, "ways back"),
    )
}
