"""What a step may answer, and what a plan of steps is: a closed set, matched without a default."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from spaces.errors import ErrorKind
from spaces.model import Facts, OpKind, Running, Space
from spaces.ports import Write
from spaces.registry import Event

if TYPE_CHECKING:
    from spaces.ports import Ports


def _no_facts() -> Facts:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The effect is there. `facts` go on to later steps; `change` is written with the step.

    `events` are published beside those of the runner itself; `rows` stand in the space's partition
    and are written in the same transaction.
    """

    detail: str = ""
    facts: Facts = field(default_factory=_no_facts)
    change: Callable[[Space], Space] | None = None
    events: tuple[Event, ...] = ()
    rows: tuple[Write, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """The effect is under way elsewhere: look again. Nothing is written.

    `began` says that this very call began it: its look then merges with no other's, which may have
    been and gone before the effect.
    """

    delay_s: float
    detail: str = ""
    began: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """It did not work this time: try again as a counted attempt, after `delay_s` or a back-off."""

    kind: ErrorKind
    reason: str
    delay_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """It cannot work: undo what was done. `reason` says what happened, where and what to do.

    `slug` is the error's problem slug (`damaged`): what a caller's exit code follows.
    """

    reason: str
    kind: ErrorKind = ErrorKind.INVALID
    slug: str | None = None


type Outcome = Done | Wait | Retry | Failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a step is given: the space as it stands, its operation, and the time."""

    space: Space
    op: Running
    now: datetime

    def fact(self, name: str) -> str:
        """A text that an earlier step found out; a missing one is a defect of the plan."""
        value = self.op.facts.get(name)
        if not isinstance(value, str):
            raise KeyError(f"fact {name} of {self.op.op_id} is missing")
        return value


type Act = Callable[[Ports, Work], Awaitable[Outcome]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One idempotent effect with a deadline of `budget_s` seconds, and how it is undone.

    `attempt_s` is how long one attempt may work without a word before it counts as lost: most
    answer within seconds (0), and a second one would only repeat the work of the first.
    """

    name: str
    act: Act
    budget_s: float
    undo: Act | None = None
    attempt_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The steps of one kind of operation, and the queue that carries its pokes.

    `started`, `succeeded` and `failed` are the types of the CloudEvents published then; empty
    for none. An operation in flight keeps the step names it started with. `as_told` sees to a
    living space after a late runner: it brings it to what its row says.
    """

    kind: OpKind
    queue: str
    steps: tuple[Step, ...]
    started: str = ""
    succeeded: str = ""
    failed: str = ""
    as_told: Act | None = None

    def step(self, name: str) -> Step:
        """The step of that name; `KeyError` where this release no longer has it."""
        for step in self.steps:
            if step.name == name:
                return step
        raise KeyError(f"no step {name} in {self.kind}")


type Plans = Mapping[OpKind, Plan]
