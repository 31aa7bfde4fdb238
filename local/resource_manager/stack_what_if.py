"""What-if results of deployment stacks: a stack's body kept beside it, and what it would change.

A result is a resource of its own, made by PUT, filled by `POST …/whatIf`, forgotten after its
retention interval. Nothing of the stack or of its resources is touched.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from local.resource_manager.apart import apart
from local.resource_manager.diff import delta, plain
from local.resource_manager.errors import ArmError, bad_request
from local.resource_manager.forecast import Forecaster
from local.resource_manager.ids import GROUP_TYPE, STACK_TYPE, STACK_WHAT_IF_TYPE, parse
from local.resource_manager.operations import end_as_asked
from local.resource_manager.secret_references import values_of
from local.resource_manager.stacks import BUSY, deployment_of, unmanage_of
from local.resource_manager.store import Record

if TYPE_CHECKING:
    from local.resource_manager.forecast import Change
    from local.resource_manager.ids import ResourceId
    from local.resource_manager.operations import Operations
    from local.resource_manager.resources import Resources
    from local.resource_manager.stacks import Stacks
    from local.resource_manager.store import Operation

_INTERVAL = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?")
_NO_DENY = {
    "mode": "none",
    "applyToChildScopes": False,
    "excludedPrincipals": [],
    "excludedActions": [],
}


class StackWhatIfs:
    """Keeps results and fills them."""

    def __init__(self, stacks: Stacks, resources: Resources, operations: Operations) -> None:
        self._stacks = stacks
        self._resources = resources
        self._store = resources.cloud.store
        self._operations = operations
        operations.handle("stackWhatIf.put", self._run_put)
        operations.handle("stackWhatIf.run", self._run)

    async def put(
        self,
        target: ResourceId,
        body: dict[str, Any],
        checked: dict[str, Any],
        *,
        principal: str,
        end_as: dict[str, Any] | None = None,
    ) -> tuple[Record, Operation, bool]:
        """Keep what shall be looked at; the result, the operation, whether it is new.

        `checked` is the body with the values that references in it lead to.

        Raises:
            ArmError: it is no stack that could be.
        """
        self._refuse_busy(target)
        given = body.get("properties")
        if not isinstance(given, dict):
            raise bad_request("The what-if result has no properties.")
        stack = _stack_of(target, given.get("deploymentStackResourceId"))
        interval = given.get("retentionInterval")
        expires = datetime.now(UTC) + _interval(interval)
        properties, _ = await apart(self._stacks.checked, stack, checked, principal)
        self._refuse_busy(target)  # somebody else may have asked meanwhile
        before = self.get(target)
        kept = {"location": body["location"]} if body.get("location") else {}
        record = Record(
            id=target,
            body={
                **kept,
                "tags": body.get("tags") or {},
                "properties": {
                    **properties,
                    "deploymentStackResourceId": str(stack),
                    "retentionInterval": interval,
                },
            },
            state="initializing",
            hidden={
                "template": given["template"],
                "parameters": given.get("parameters") or {},
                "principal": principal,
                "expires_at": expires.isoformat(),
            },
        )
        self._store.put(record)
        operation = self._operations.start("stackWhatIf.put", target, end_as=end_as)
        return record, operation, before is None

    def _refuse_busy(self, target: ResourceId) -> None:
        if self._operations.busy(target):
            raise ArmError(
                "DeploymentStackWhatIfResultInNonTerminalState",
                f"The what-if result '{target.name}' is being worked on. Try again.",
                status=409,
            )

    def get(self, target: ResourceId) -> Record | None:
        """One result that has not expired."""
        found = self._store.get(target)
        if found is None or found.hidden["expires_at"] > datetime.now(UTC).isoformat():
            return found
        self._store.delete(target)
        return None

    def all(self, scope: ResourceId) -> list[Record]:
        """All of one scope."""
        records = self._store.of_type(STACK_WHAT_IF_TYPE)
        here = [one for one in records if one.id.scope.key == scope.key]
        return [one for one in here if self.get(one.id) is not None]

    def foresee(self, record: Record, *, end_as: dict[str, Any] | None = None) -> Operation:
        """Begin to fill a result.

        Raises:
            ArmError: that is being done, or the stack is being changed.
        """
        stack = self._store.get(record.properties["deploymentStackResourceId"])
        if self._operations.busy(record.id) or (stack is not None and stack.state in BUSY):
            raise ArmError(
                "DeploymentStackInNonTerminalState",
                f"The what-if result '{record.id.name}' or its stack is being worked on.",
                status=409,
            )
        self._store.update(record.id, state="running")
        return self._operations.start("stackWhatIf.run", record.id, end_as=end_as)

    async def _run_put(self, operation: Operation) -> None:
        target = parse(operation.target)
        try:
            end_as_asked(operation)
        except ArmError:
            self._store.update(target, state="failed")
            raise
        self._store.update(target, state="succeeded")

    async def _run(self, operation: Operation) -> dict[str, Any] | None:
        record = self._store.get(operation.target)
        if record is None:
            return None
        try:
            end_as_asked(operation)
            facts = await apart(self._foreseen, record, await self._inputs(record))
        except ArmError as error:
            properties = {**record.properties, "error": error.inner()}
            body = {**record.body, "properties": properties}
            self._store.update(record.id, state="failed", body=body)
            raise
        properties = {**record.properties, **facts, "correlationId": operation.id}
        properties.pop("error", None)
        body = {**record.body, "properties": properties}
        done = self._store.update(record.id, state="succeeded", body=body)
        return done.shown() if done else None

    async def _inputs(self, record: Record) -> dict[str, Any]:
        """Template and parameters, as secrets are now."""
        kept = record.hidden
        cloud = self._resources.cloud
        given = await values_of(cloud, kept["parameters"], kept["template"])
        return {"template": kept["template"], "parameters": given or kept["parameters"]}

    def _foreseen(self, record: Record, inputs: dict[str, Any]) -> dict[str, Any]:
        wanted = record.properties
        stack_id = parse(wanted["deploymentStackResourceId"])
        stack = self._store.get(stack_id)
        scope = parse(wanted["deploymentScope"])
        deployment = deployment_of(stack_id, scope, "what-if")
        place = self._stacks.deployments.place(
            deployment, record.body.get("location"), record.hidden["principal"]
        )
        forecaster = Forecaster(self._resources, self._stacks.deployments)
        found = forecaster.foresee(deployment, inputs, place)
        deny = wanted["denySettings"]
        old_deny = stack.properties["denySettings"] if stack else _NO_DENY
        modes = (old_deny["mode"], deny["mode"])
        changes = [
            self._told(one, stack_id, modes)
            for one in found.changes.values()
            if one.kind != "Ignore"
        ]
        declared = {key: one.id for key, one in found.changes.items() if one.kind != "Ignore"}
        changes += self._let_go(stack, wanted, declared)
        facts: dict[str, Any] = {
            "changes": {
                "resourceChanges": changes,
                "denySettingsChange": {
                    "before": old_deny,
                    "after": deny,
                    "delta": [
                        one.told("changeType", capital=False) for one in delta(old_deny, deny)
                    ],
                },
            },
            "diagnostics": [
                {**one, "level": one["level"].lower()} for one in found.diagnostics
            ],
            "deploymentStackLastModified": stack.hidden.get("changed_at") if stack else None,
        }
        before = (
            str(stack.properties.get("deploymentScope") or stack.id.scope) if stack else None
        )
        if before is not None and before.lower() != scope.key:
            facts["changes"]["deploymentScopeChange"] = {"before": before, "after": str(scope)}
        return facts

    def _told(
        self, change: Change, stack: ResourceId, modes: tuple[str, str]
    ) -> dict[str, Any]:
        record = self._store.get(change.id)
        was_managed = record is not None and record.stack == stack.key
        kinds = {"Create": "create", "Modify": "modify", "NoChange": "noChange"}
        said: dict[str, Any] = {
            "id": str(change.id),
            "type": change.id.type,
            "apiVersion": change.api_version,
            "deploymentId": str(change.deployment),
            "changeType": kinds[change.kind],
            "changeCertainty": "definite" if change.is_certain else "potential",
            "managementStatusChange": {
                "before": "managed" if was_managed else "unmanaged",
                "after": "managed",
            },
            "denyStatusChange": {
                "before": modes[0] if was_managed else "none",
                "after": modes[1],
            },
            "resourceConfigurationChanges": {
                "before": plain(change.before),
                "after": plain(change.after),
                "delta": [one.told("changeType", capital=False) for one in change.delta],
            },
        }
        if change.symbol is not None:
            said["symbolicName"] = change.symbol
        return said

    def _let_go(
        self, stack: Record | None, wanted: dict[str, Any], declared: dict[str, ResourceId]
    ) -> list[dict[str, Any]]:
        """What the stack manages and would no longer; and what would go with a deleted group."""
        if stack is None:
            return []
        action = unmanage_of(wanted["actionOnUnmanage"])
        kept = frozenset(one.group.lower() for one in declared.values() if one.group)
        mode = stack.properties["denySettings"]["mode"]
        managed = self._stacks.managed(stack.key)
        gone = [one for one in managed if one.key not in declared]
        told: dict[str, dict[str, Any]] = {}
        for one in gone:
            fate = self._stacks.fate(one, action, kept)
            told[one.key] = _gone(one, fate, before="managed", mode=mode)
        for one in gone:
            if one.id.type == GROUP_TYPE and told[one.key]["changeType"] == "delete":
                for other in self._store.below(one.id):
                    about = _gone(other, "delete", before="unmanaged", mode="none")
                    if "/deployments/" not in other.key:
                        told.setdefault(other.key, about)
        return list(told.values())


def _gone(record: Record, fate: str, *, before: str, mode: str) -> dict[str, Any]:
    seen = record.shown()
    return {
        "id": str(record.id),
        "type": record.id.type,
        "changeType": fate,
        "changeCertainty": "definite",
        "managementStatusChange": {
            "before": before,
            "after": "unmanaged" if fate == "detach" else "unknown",
        },
        "denyStatusChange": {"before": mode, "after": "none"},
        "resourceConfigurationChanges": {
            "before": seen,
            "after": seen if fate == "detach" else None,
            "delta": [],
        },
    }


def _stack_of(target: ResourceId, wanted: Any) -> ResourceId:  # noqa: ANN401 — as it came
    if not isinstance(wanted, str):
        raise bad_request("'deploymentStackResourceId' is required.")
    found = parse(wanted)
    if found.type.lower() != STACK_TYPE.lower() or found.scope.key != target.scope.key:
        raise bad_request(
            f"'deploymentStackResourceId' must name a deployment stack at the scope of the "
            f"what-if result, and is '{wanted}'."
        )
    return found


def _interval(wanted: Any) -> timedelta:  # noqa: ANN401 — as it came
    found = _INTERVAL.fullmatch(wanted) if isinstance(wanted, str) else None
    if found is None or not any(found.groups()):
        raise bad_request("'retentionInterval' is required, as an ISO 8601 duration.")
    days, hours, minutes, seconds = (int(one or 0) for one in found.groups())
    if days > 3650:
        raise bad_request("'retentionInterval' is too long.")
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
