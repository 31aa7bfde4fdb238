"""Azure Resource Manager: deployment stacks, machines, their power."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class StackState(StrEnum):
    """What a deployment stack is doing, in the three words that matter, and absence."""

    ABSENT = "absent"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A deployment stack as the Resource Manager shows it.

    `code` and `message` tell the innermost error of a failed one; `retry_after_s` is what the
    server asked for, where it did; `outputs` are plain values by name.
    """

    name: str
    state: StackState
    outputs: Mapping[str, object] = field(default_factory=dict[str, object])
    parameters: Mapping[str, object] = field(default_factory=dict[str, object])
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    code: str | None = None
    message: str | None = None
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StackRequest:
    """All that a stack PUT needs: computed name, location of its record, template, parameters."""

    name: str
    location: str
    template: Mapping[str, object]
    parameters: Mapping[str, object]
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One machine of a space's scale set, with the limits that hold it where the platform tells."""

    name: str
    zone: str
    state: str
    memory_mib: int | None = None
    cpus: float | None = None
    limited_by: str | None = None


class Power(StrEnum):
    """Whether something runs. Neither of the last two is ON or OFF."""

    ON = "on"
    OFF = "off"
    CHANGING = "changing"
    """It is being started, stopped or changed: look again."""
    PARTLY = "partly"
    """Nothing is under way, and not all of it is as the rest: say again what you want."""


class PartKind(StrEnum):
    """What of a space can be stopped and started."""

    MACHINES = "machines"
    DATABASE = "database"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A scale set or a database server, by its computed names."""

    kind: PartKind
    resource_group: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What a deployment would do to one resource.

    `change` is create, modify, delete, detach or no_change; `paths` are the properties that would
    change, with the values before and after.
    """

    resource: str
    change: str
    paths: tuple[tuple[str, object, object], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Foresight:
    """What the PUT of a stack would change; RUNNING while the server still compares."""

    state: StackState
    differences: tuple[Difference, ...] = ()
    code: str | None = None
    message: str | None = None
    retry_after_s: float | None = None


class Arm(Protocol):
    """Azure Resource Manager: deployment stacks at subscription scope. Nothing here waits."""

    async def put_stack(self, request: StackRequest) -> Stack:
        """Start (or repeat) the PUT of a stack under its computed name; answers at once.

        Raises `ConflictError` (another operation on that stack runs: look by name), `DeniedError`,
        `InvalidError` (the template or a parameter is wrong), `QuotaError`, `ThrottledError`,
        `TransientError` (nothing was sent), `UnknownError` (look by name).
        """
        ...

    async def get_stack(self, name: str) -> Stack:
        """The stack by name; `StackState.ABSENT` only when the server says that there is none."""
        ...

    async def delete_stack(self, name: str) -> Stack:
        """Start the deletion of a stack and all it manages; a missing one is ABSENT."""
        ...

    async def list_stacks(self) -> list[Stack]:
        """All stacks of the subscription, in name order, without outputs and parameters."""
        ...

    async def what_if_stack(self, request: StackRequest, *, asked: str) -> Foresight:
        """What `put_stack` of this request would change: begins the comparison, or looks at it.

        `asked` names this question: the same word looks at the same comparison, a new word makes a
        new one. What it leaves behind ends by itself within a day. Raises as `put_stack` does.
        """
        ...

    async def instances(self, resource_group: str, scale_set: str) -> list[Instance]:
        """The machines of a scale set, in name order."""
        ...

    async def power(self, part: Part) -> Power:
        """Whether it runs. Raises `NotFoundError`, where there is no such thing."""
        ...

    async def set_power(self, part: Part, *, on: bool) -> None:
        """Begin to start or to stop it; returns at once, and may be repeated. Look before.

        A stopped one keeps its data and stays stopped. Raises `ConflictError` while something else
        is under way there, `NotFoundError`.
        """
        ...

    async def purge_vault(self, name: str, location: str) -> bool:
        """Remove what a deleted vault left behind; True once nothing is left of it. Repeatable.

        Raises `InvalidError` where the vault's own protection forbids it.
        """
        ...
