"""Deployment stacks of a subscription or a group: what a template made, kept together and guarded.

A stack remembers what it manages on the resources themselves, from the moment each is intended.
What the next template no longer declares is deleted or let go, as `actionOnUnmanage` says.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from local.resource_manager.apart import apart
from local.resource_manager.deployments import Deployments, Ledger, deployment_id
from local.resource_manager.errors import ArmError, bad_request, group_not_found
from local.resource_manager.ids import (
    DEPLOYMENT_TYPE,
    GROUP_TYPE,
    STACK_TYPE,
    ResourceId,
    parse,
)
from local.resource_manager.operations import end_as_asked, now
from local.resource_manager.parameters import shown
from local.resource_manager.store import Operation, Record

if TYPE_CHECKING:
    from local.resource_manager.operations import Operations
    from local.resource_manager.resources import Resources
    from local.resource_manager.template import Template

_ACTIONS = ("delete", "detach")
_MODES = {
    "none": "none",
    "denydelete": "denyDelete",
    "denywriteanddelete": "denyWriteAndDelete",
}
BUSY = (
    "creating", "validating", "waiting", "deploying", "updatingDenyAssignments",
    "deletingResources", "deleting", "canceling",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmanage:
    """What becomes of resources and groups that a stack no longer declares."""

    resources: str
    groups: str


class Stacks:
    """Creates, updates and deletes deployment stacks."""

    def __init__(
        self, resources: Resources, deployments: Deployments, operations: Operations
    ) -> None:
        self._resources = resources
        self.deployments = deployments
        self._operations = operations
        self._store = resources.cloud.store
        operations.handle("stack.put", self._run_put)
        operations.handle("stack.delete", self._run_delete)

    def checked(
        self, target: ResourceId, body: dict[str, Any], principal: str
    ) -> tuple[dict[str, Any], Template]:
        """The properties that a stack would have, and its template.

        Raises:
            ArmError: the body or the template is wrong.
        """
        properties = body.get("properties")
        if not isinstance(properties, dict):
            raise bad_request("The deployment stack has no properties.")
        if target.group is None and not body.get("location"):
            raise bad_request("The location of a subscription's stack is required.")
        unmanage = unmanage_of(properties.get("actionOnUnmanage"))
        scope = self._scope(target, properties.get("deploymentScope"))
        place = self.deployments.place(
            deployment_of(target, scope, "validate"), body.get("location"), principal
        )
        template = self.deployments.validate({**properties, "mode": "Incremental"}, place)
        level = str(properties.get("validationLevel") or "Provider")
        if level not in ("Template", "Provider", "ProviderNoRbac"):
            raise bad_request(f"The validation level '{level}' is unknown.")
        said = {
            "actionOnUnmanage": {
                "resources": unmanage.resources,
                "resourceGroups": unmanage.groups,
                "managementGroups": "detach",
            },
            "denySettings": _deny(properties.get("denySettings")),
            "description": properties.get("description"),
            "deploymentScope": str(scope),
            "validationLevel": level,
            "parameters": shown(template.declared, template.values),
        }
        if properties.get("templateLink") is not None:
            said["templateLink"] = properties["templateLink"]
        return said, template

    async def put(
        self,
        target: ResourceId,
        body: dict[str, Any],
        principal: str,
        *,
        end_as: dict[str, Any] | None = None,
    ) -> tuple[Record, Operation, bool]:
        """Begin to create or update; the stack, the operation, whether it is new.

        Raises:
            ArmError: it is refused; nothing was done.
        """
        self._refuse_busy(target, self._store.get(target))
        properties, _ = await apart(self.checked, target, body, principal)
        before = self._store.get(target)
        self._refuse_busy(target, before)  # another one may have begun meanwhile
        kept = {
            key: before.properties[key]
            for key in ("outputs", "resources", "deploymentId")
            if before and key in before.properties
        }
        wanted = body["properties"]
        record = Record(
            id=before.id if before else target,
            body={
                "location": body.get("location"),
                "tags": body.get("tags") or {},
                "properties": {**properties, **kept, "provisioningState": "creating"},
            },
            state="creating" if before is None else "deploying",
            hidden={"template": wanted["template"], "changed_at": now()},
        )
        self._store.put(record)
        inputs = {
            "template": wanted["template"],
            "parameters": wanted.get("parameters") or {},
            "location": body.get("location"),
            "principal": principal,
        }
        operation = self._operations.start("stack.put", record.id, inputs, end_as=end_as)
        return record, operation, before is None

    def delete(
        self, target: ResourceId, query: dict[str, str], *, end_as: dict[str, Any] | None = None
    ) -> Operation | None:
        """Begin to delete; None when there is no such stack.

        Raises:
            ArmError: something else is being done with it.
        """
        found = self._store.get(target)
        if found is None:
            return None
        if found.state == "deleting":
            running = self._store.running(found.key)
            if running:
                return running[0]
        self._refuse_busy(target, found)
        self._store.put(replace(found, state="deleting"))
        asked = {
            "resources": query.get("unmanageaction.resources", "detach"),
            "resourceGroups": query.get("unmanageaction.resourcegroups", "detach"),
        }
        unmanage_of(asked)
        return self._operations.start("stack.delete", found.id, asked, end_as=end_as)

    def shown(self, record: Record) -> dict[str, Any]:
        """The stack as a GET answers it, with what it manages now."""
        said = record.shown()
        mode = record.properties["denySettings"]["mode"]
        said["properties"]["resources"] = [
            {"id": str(one.id), "status": "managed", "denyStatus": mode}
            for one in self.managed(record.key)
        ]
        return said

    async def _run_put(self, operation: Operation) -> None:
        record = self._store.get(operation.target)
        if record is None:
            raise ArmError("DeploymentStackNotFound", "The stack is gone.", status=404)
        inputs = operation.inputs or {}
        started = time.monotonic()
        scope = self._scope(record.id, record.properties.get("deploymentScope"))
        deployment = deployment_of(record.id, scope, operation.id[:8])
        facts: dict[str, Any] = {
            "correlationId": operation.id,
            "deploymentId": str(deployment),
            "failedResources": [],
            "deletedResources": [],
            "detachedResources": [],
        }
        ledger = Ledger(stack=record.key, correlation=operation.id)
        self._note(record.id, "deploying", facts)
        try:
            end_as_asked(operation)
            place = self.deployments.place(
                deployment, inputs["location"], inputs.get("principal", "")
            )
            done = await self.deployments.run(deployment, inputs, place, ledger)
            self._note(record.id, "deletingResources", {})
            unmanaged = await self._let_go(record, ledger)
        except ArmError as error:
            canceled = error.code == "OperationCanceled"
            facts["failedResources"] = [
                {"id": str(one), "error": cause.inner()}
                for one, cause in ledger.failed.values()
            ]
            failure = error if canceled else _failed(error, operation.id)
            facts["error"] = None if canceled else failure.inner()
            facts["duration"] = f"PT{time.monotonic() - started:.3f}S"
            self._note(record.id, "canceled" if canceled else "failed", facts)
            raise failure from error
        facts |= unmanaged
        facts |= {"outputs": done["outputs"], "error": None}
        facts["duration"] = f"PT{time.monotonic() - started:.3f}S"
        self._note(record.id, "succeeded", facts)

    async def _run_delete(self, operation: Operation) -> None:
        found = self._store.get(operation.target)
        if found is None:
            return
        try:
            end_as_asked(operation)
            action = unmanage_of(operation.inputs or {})
            await self._release(self._store.of_stack(found.key), action)
        except ArmError as error:
            canceled = error.code == "OperationCanceled"
            state = "canceled" if canceled else "failed"
            self._note(found.id, state, {} if canceled else {"error": error.inner()})
            raise
        self._store.delete(found.id)

    async def _let_go(self, record: Record, ledger: Ledger) -> dict[str, Any]:
        wanted = record.properties["actionOnUnmanage"]
        action = unmanage_of(wanted)
        gone = [one for one in self.managed(record.key) if one.key not in ledger.made]
        kept_groups = frozenset(one.group.lower() for one in ledger.made.values() if one.group)
        fates = {one.key: self.fate(one, action, kept_groups) for one in gone}
        await self._release(gone, action, kept_groups=kept_groups)
        deleted = [{"id": str(one.id)} for one in gone if fates[one.key] == "delete"]
        detached = [{"id": str(one.id)} for one in gone if fates[one.key] == "detach"]
        return {"deletedResources": deleted, "detachedResources": detached}

    async def _release(
        self, records: list[Record], action: Unmanage, kept_groups: frozenset[str] = frozenset()
    ) -> None:
        doomed = [one for one in records if self.fate(one, action, kept_groups) == "delete"]
        others = [one.id for one in doomed if one.id.type != GROUP_TYPE]
        await self._resources.remove_many(others)
        for one in doomed:
            if one.id.type == GROUP_TYPE:
                await self._resources.remove_group(one.id)
        for one in records:
            self._store.update(one.id, stack=None)

    def fate(self, record: Record, action: Unmanage, kept_groups: frozenset[str]) -> str:
        """What becomes of a resource that is no longer declared: delete or detach."""
        if record.type == DEPLOYMENT_TYPE.lower():
            return "delete"  # the history of a stack goes with it
        if record.id.type != GROUP_TYPE:
            return action.resources
        return "detach" if record.id.name.lower() in kept_groups else action.groups

    def managed(self, key: str) -> list[Record]:
        """What a stack manages, without its deployments."""
        return [one for one in self._store.of_stack(key) if one.type != DEPLOYMENT_TYPE.lower()]

    def _note(self, target: ResourceId, state: str, properties: dict[str, Any]) -> None:
        found = self._store.get(target)
        if found is not None:
            body = {**found.body, "properties": {**found.properties, **properties}}
            self._store.put(replace(found, state=state, body=body))

    def _refuse_busy(self, target: ResourceId, found: Record | None) -> None:
        if found is not None and (found.state in BUSY or self._operations.busy(target)):
            raise ArmError(
                "DeploymentStackInNonTerminalState",
                f"The deployment stack '{found.id.name}' is in the non-terminal state "
                f"'{found.state}'. Wait until it has ended and try again.",
                status=409,
            )

    def _scope(self, target: ResourceId, wanted: Any) -> ResourceId:  # noqa: ANN401 — as it came
        """Where a stack deploys to: its own scope, or a group of its subscription."""
        if wanted is None:
            return target.scope
        found = parse(str(wanted))
        inside = found.subscription.lower() == target.subscription.lower() and not found.parts
        if not inside or (target.group and found.key != target.scope.key):
            raise ArmError(
                "DeploymentStackInvalidDeploymentScope",
                f"The deployment scope '{wanted}' of the stack '{target.name}' is neither its "
                "own scope nor a resource group of its subscription.",
            )
        if found.group and self._resources.group(found.group) is None:
            raise group_not_found(found.group)
        return found


def deployment_of(target: ResourceId, scope: ResourceId, suffix: str) -> ResourceId:
    """The id of the deployment that a stack's operation makes."""
    return deployment_id(scope.subscription, scope.group, f"{target.name}-{suffix}"[:64])


def stack_id(subscription: str, name: str) -> ResourceId:
    """The id of a stack."""
    return ResourceId(subscription).under(STACK_TYPE, name)


def unmanage_of(wanted: Any) -> Unmanage:  # noqa: ANN401 — as it came
    """What a stack, or the deletion of one, says of what is no longer declared.

    Raises:
        ArmError: it says nothing, or what cannot be.
    """
    if not isinstance(wanted, dict) or "resources" not in wanted:
        raise bad_request("'actionOnUnmanage.resources' is required: delete or detach.")
    found = Unmanage(
        resources=str(wanted["resources"]).lower(),
        groups=str(wanted.get("resourceGroups") or "detach").lower(),
    )
    if found.resources not in _ACTIONS or found.groups not in _ACTIONS:
        raise bad_request("'actionOnUnmanage' takes delete or detach.")
    if found.resources == "detach" and found.groups == "delete":
        raise bad_request("Groups cannot be deleted while their resources are detached.")
    return found


def _failed(error: ArmError, correlation: str) -> ArmError:
    """The error of a stack whose deployment failed, around the deployment's own."""
    if error.code != "DeploymentFailed":
        return error
    return ArmError(
        "DeploymentStackDeploymentFailed",
        f"One or more resources could not be deployed. Correlation id: '{correlation}'.",
        details=(error.inner(),),
    )


def _deny(wanted: Any) -> dict[str, Any]:  # noqa: ANN401 — as it came
    if not isinstance(wanted, dict) or str(wanted.get("mode", "")).lower() not in _MODES:
        raise bad_request(f"'denySettings.mode' is required: {', '.join(_MODES.values())}.")
    principals, actions = (
        wanted.get("excludedPrincipals") or [],
        wanted.get("excludedActions") or [],
    )
    if len(principals) > 5 or len(actions) > 200:
        raise bad_request("'denySettings' excludes at most 5 principals and 200 actions.")
    return {
        "mode": _MODES[str(wanted["mode"]).lower()],
        "applyToChildScopes": wanted.get("applyToChildScopes") is True,
        "excludedPrincipals": [str(one) for one in principals],
        "excludedActions": [str(one) for one in actions],
    }
