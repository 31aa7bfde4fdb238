"""A Resource Manager in memory whose operations take as long, and end as, a test scripts them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from spaces.errors import ConflictError, InvalidError, NotFoundError
from spaces.ports import (
    Difference,
    Foresight,
    Instance,
    Part,
    PartKind,
    Power,
    Stack,
    StackRequest,
    StackState,
)
from tests.fakes.faults import Faults

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.fakes.clock import FakeClock

type Outputs = Callable[[StackRequest], Mapping[str, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """How a stack's operations go: how long, and how they end."""

    duration_s: float = 0.0
    delete_s: float = 0.0
    power_s: float = 0.0
    failure: tuple[str, str] | None = None
    undeletable: tuple[str, str] | None = None
    canceled: bool = False
    retry_after_s: float | None = 1.0


@dataclass(slots=True)
class _Record:
    request: StackRequest
    script: Script
    ends_at: datetime
    deleting: bool = False
    puts: int = field(default=1)
    refused: tuple[str, str] | None = None


class FakeArm:
    """Stacks by name. `default` scripts every stack that no script of its own is set for.

    What a stack brings can be stopped and started, by the names of its outputs; a stopped database
    server refuses a PUT of its stack, as the real one does.
    """

    def __init__(
        self, clock: FakeClock, *, outputs: Outputs | None = None, default: Script | None = None
    ) -> None:
        self.faults = Faults()
        self.default = default or Script()
        self.scripts: dict[str, Script] = {}
        self.machines: dict[tuple[str, str], list[Instance]] = {}
        self.purged: set[str] = set()
        self._power: dict[Part, tuple[bool, datetime]] = {}
        self._asked: dict[str, StackRequest] = {}
        self._outputs = outputs or (lambda _: {})
        self._clock = clock
        self._records: dict[str, _Record] = {}

    async def put_stack(self, request: StackRequest) -> Stack:
        self.faults.before("put_stack")
        _check(request)
        there = self._there(request.name)
        if there is not None and self._runs(there):
            raise ConflictError(
                "the stack is in a non-terminal state [409 DeploymentStackInNonTerminalState]",
                where=f"stack {request.name}",
            )
        script = self.scripts.get(request.name, self.default)
        self._records[request.name] = _Record(
            request=request,
            script=script,
            ends_at=self._clock.now() + timedelta(seconds=script.duration_s),
            puts=there.puts + 1 if there is not None else 1,
            refused=self._stopped(request),
        )
        self.faults.after("put_stack")
        # the answer to a PUT is never final: what comes next is seen by looking
        return replace(self._shown(request.name), state=StackState.RUNNING, outputs={})

    async def get_stack(self, name: str) -> Stack:
        self.faults.before("get_stack")
        return self._shown(name)

    async def delete_stack(self, name: str) -> Stack:
        self.faults.before("delete_stack")
        record = self._there(name)
        if record is None:
            return Stack(name=name, state=StackState.ABSENT)
        if self._runs(record) and not record.deleting:
            raise ConflictError(
                "the stack is in a non-terminal state [409 DeploymentStackInNonTerminalState]",
                where=f"stack {name}",
            )
        if not record.deleting:
            record.deleting = True
            record.ends_at = self._clock.now() + timedelta(seconds=record.script.delete_s)
        self.faults.after("delete_stack")
        return Stack(
            name=name, state=StackState.RUNNING, retry_after_s=record.script.retry_after_s
        )

    async def list_stacks(self) -> list[Stack]:
        self.faults.before("list_stacks")
        return [replace(self._shown(name), outputs={}, parameters={}) for name in self.names()]

    async def what_if_stack(self, request: StackRequest, *, asked: str) -> Foresight:
        self.faults.before("what_if_stack")
        _check(request)
        key = f"{request.name}-{asked}"
        if key not in self._asked:
            self._asked[key] = request
            return Foresight(state=StackState.RUNNING)
        known = self._asked[key]
        there = self._there(request.name)
        before = there.request.parameters if there is not None else {}
        paths = tuple(
            (name, before.get(name), value)
            for name, value in sorted(known.parameters.items())
            if before.get(name) != value
        )
        change = "create" if there is None else "modify" if paths else "no_change"
        found = Difference(resource=request.name, change=change, paths=paths)
        return Foresight(state=StackState.SUCCEEDED, differences=(found,))

    async def instances(self, resource_group: str, scale_set: str) -> list[Instance]:
        self.faults.before("instances")
        found = self.machines.get((resource_group, scale_set), [])
        part = Part(kind=PartKind.MACHINES, resource_group=resource_group, name=scale_set)
        if not self.is_on(part):
            found = [replace(instance, state="deallocated") for instance in found]
        return sorted(found, key=lambda instance: instance.name)

    async def power(self, part: Part) -> Power:
        self.faults.before("power")
        self._must_be_there(part)
        on, until = self._power.get(part, (True, self._clock.now()))
        if until > self._clock.now():
            return Power.CHANGING
        return Power.ON if on else Power.OFF

    async def set_power(self, part: Part, *, on: bool) -> None:
        self.faults.before("set_power")
        self._must_be_there(part)
        was, until = self._power.get(part, (True, self._clock.now()))
        if until > self._clock.now() and was is not on:
            raise ConflictError("another operation is under way", where=part.name)
        if was is not on:
            ends = self._clock.now() + timedelta(seconds=self._script_of(part).power_s)
            self._power[part] = (on, ends)
        self.faults.after("set_power")

    async def purge_vault(self, name: str, location: str) -> bool:
        del location
        self.faults.before("purge_vault")
        there = name in self.purged
        self.purged.add(name)
        self.faults.after("purge_vault")
        return there

    # --- for tests

    def names(self) -> list[str]:
        """The stacks that exist now."""
        return sorted(name for name in list(self._records) if self._there(name) is not None)

    def request(self, name: str) -> StackRequest:
        """What was last PUT under this name."""
        return self._records[name].request

    def puts(self, name: str) -> int:
        """How often it was PUT."""
        return self._records[name].puts if name in self._records else 0

    def is_on(self, part: Part) -> bool:
        """Whether it runs at this moment; what nobody stopped does."""
        on, until = self._power.get(part, (True, self._clock.now()))
        return on and until <= self._clock.now()

    def wake_by_itself(self, part: Part) -> None:
        """Let the platform start what somebody stopped."""
        self._power[part] = (True, self._clock.now())

    def start_machines(self, resource_group: str, scale_set: str, zones: Sequence[str]) -> None:
        """One running machine per zone."""
        self.machines[resource_group, scale_set] = [
            Instance(
                name=f"{scale_set}_{at}",
                zone=zone,
                state="running",
                memory_mib=192,
                cpus=1.0,
                limited_by="cgroup v2",
            )
            for at, zone in enumerate(zones)
        ]

    def _groups(self) -> dict[str, str]:
        """The resource group of each stack there is, and the stack's name."""
        shown = {name: self._outputs(self._records[name].request) for name in self.names()}
        return {str(outputs.get("resourceGroup")): name for name, outputs in shown.items()}

    def _must_be_there(self, part: Part) -> None:
        if part.resource_group not in self._groups():
            raise NotFoundError("there is no such resource", where=part.name)

    def _script_of(self, part: Part) -> Script:
        name = self._groups()[part.resource_group]
        return self.scripts.get(name, self.default)

    def _stopped(self, request: StackRequest) -> tuple[str, str] | None:
        group = str(self._outputs(request).get("resourceGroup"))
        for part in self._power:
            database = part.kind is PartKind.DATABASE and part.resource_group == group
            if database and not self.is_on(part):
                return "ServerStoppedError", f"the server {part.name} is stopped"
        return None

    def _there(self, name: str) -> _Record | None:
        record = self._records.get(name)
        if record is not None and record.deleting and record.ends_at <= self._clock.now():
            stuck = self.scripts.get(name, record.script).undeletable
            if stuck is not None:
                record.deleting, record.refused = False, stuck
                return record
            group = str(self._outputs(record.request).get("resourceGroup"))
            self._power = {p: v for p, v in self._power.items() if p.resource_group != group}
            del self._records[name]
            return None
        return record

    def _runs(self, record: _Record) -> bool:
        return record.ends_at > self._clock.now()

    def _shown(self, name: str) -> Stack:
        record = self._there(name)
        if record is None:
            return Stack(name=name, state=StackState.ABSENT)
        script, request = record.script, record.request
        base = Stack(
            name=name,
            state=StackState.RUNNING,
            parameters=_shown(request),
            tags=dict(request.tags),
        )
        if record.deleting or self._runs(record):
            return replace(base, retry_after_s=script.retry_after_s)
        failure = record.refused or script.failure
        if failure is not None or script.canceled:
            code, message = failure or ("Canceled", "")
            return replace(base, state=StackState.FAILED, code=code, message=message or None)
        return replace(base, state=StackState.SUCCEEDED, outputs=self._outputs(request))


def _shown(request: StackRequest) -> dict[str, object]:
    """Parameters as they are shown: secure ones never leave the Resource Manager."""
    declared = request.template.get("parameters")
    kinds = declared if isinstance(declared, dict) else {}
    return {
        name: None if str(kinds.get(name, {}).get("type", "")).startswith("secure") else value
        for name, value in request.parameters.items()
    }


def _check(request: StackRequest) -> None:
    if "resources" not in request.template:
        raise InvalidError("the template has no resources", where=f"stack {request.name}")
    declared = request.template.get("parameters")
    kinds = declared if isinstance(declared, dict) else {}
    unknown = sorted(set(request.parameters) - set(kinds))
    if unknown:
        raise InvalidError(
            f"the template does not know the parameters {unknown}",
            where=f"stack {request.name}",
        )
    for name, kind in kinds.items():
        if "defaultValue" not in kind and name not in request.parameters:
            raise InvalidError(f"parameter {name} is missing", where=f"stack {request.name}")
