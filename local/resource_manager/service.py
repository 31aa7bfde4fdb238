"""The Resource Manager put together: the cloud's parts, what is made of them, what is running."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from local.errors import StackError
from local.resource_manager.apart import apart
from local.resource_manager.deny import refuse_denied
from local.resource_manager.deployments import Deployments, Ledger, mode_of
from local.resource_manager.errors import ArmError
from local.resource_manager.faults import Faults
from local.resource_manager.forecast import Forecaster, result
from local.resource_manager.ids import ResourceId, parse
from local.resource_manager.operations import Operations, deployment_failed, end_as_asked
from local.resource_manager.parameters import shown
from local.resource_manager.providers.compute import SCALE_SET, scale_set_of
from local.resource_manager.providers.postgres import FlexibleServers
from local.resource_manager.resources import Resources, is_listed
from local.resource_manager.stack_what_if import StackWhatIfs
from local.resource_manager.stacks import Stacks
from local.resource_manager.steps import template_hash
from local.resource_manager.store import Operation, Record

if TYPE_CHECKING:
    from local.resource_manager.call import Call
    from local.resource_manager.cloud import Cloud
    from local.resource_manager.scope import Place
    from local.resource_manager.template import Template

log = logging.getLogger("local.resource_manager")


class Service:
    """Everything behind the wire."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.faults = Faults(cloud.home.path("resource_manager", "faults.json"))
        self.resources = Resources(cloud, self.faults)
        self.operations = Operations(cloud.store)
        self.deployments = Deployments(self.resources)
        self.stacks = Stacks(self.resources, self.deployments, self.operations)
        self.stack_what_ifs = StackWhatIfs(self.stacks, self.resources, self.operations)
        self.operations.handle("deployment.put", self._run_deployment)
        self.operations.handle("deployment.whatIf", self._foresee)
        self.operations.handle("group.delete", self._delete_group)
        self.operations.handle("resource.put", self._put_resource)
        self.operations.handle("resource.delete", self._delete_resource)
        self.operations.handle("resource.power", self._power)

    async def start(self) -> None:
        """Bring back what should run, then go on with what was being done."""
        await self.repair()

    async def stop(self) -> None:
        """End the work of this process; databases and space processes go on."""
        await self.operations.stop()
        await self.cloud.compute.close()
        self.cloud.store.close()

    async def repair(self) -> list[str]:
        """Start what is recorded and does not run, and go on with operations; what failed."""
        try:
            await self.cloud.compute.recover()
        except (StackError, OSError) as error:
            log.error("compute.not_recovered %s", error)  # noqa: TRY400 — the reason says it all
        records = [
            one
            for one in self.cloud.store.of_type(FlexibleServers.type, SCALE_SET)
            if one.state == "Succeeded"
        ]
        failures = await asyncio.gather(*(self._repair_one(one) for one in records))
        self.resources.refresh_routes()
        self.operations.resume()
        return [failure for failure in failures if failure]

    async def stop_processes(self) -> None:
        """Stop all databases and space processes; their records and data stay.

        Operations are halted first, or they would start what was just stopped; `repair` resumes
        them, and so does the next process.
        """
        await self.operations.stop()
        sets = self.cloud.store.of_type(SCALE_SET)
        # A set of no instances, until `repair` asks for the recorded number again.
        idle = (replace(scale_set_of(one, self.cloud), capacity=0) for one in sets)
        await asyncio.gather(*(self.cloud.compute.ensure(one) for one in idle))
        servers = self.cloud.store.of_type(FlexibleServers.type)
        await asyncio.gather(*(self.cloud.databases.stop(one.id.name) for one in servers))

    def begin_deployment(
        self, target: ResourceId, body: dict[str, Any], place: Place, template: Template
    ) -> Record:
        """Record a deployment whose template was validated."""
        given = body["properties"]
        kept: dict[str, Any] = {
            "tags": body.get("tags") or {},
            "properties": {
                "mode": mode_of(given),
                "templateHash": template_hash(given["template"]),
                "parameters": shown(template.declared, template.values),
            },
        }
        if given.get("templateLink") is not None:
            kept["properties"]["templateLink"] = given["templateLink"]
        if place.group is None:
            kept["location"] = place.location
        hidden = {"template": given["template"]}
        record = Record(id=target, body=kept, state="Accepted", hidden=hidden)
        return self.cloud.store.put(record)

    def method_not_allowed(self, call: Call) -> ArmError:
        """405 for a path that exists."""
        return ArmError(
            "MethodNotAllowed",
            f"The method {call.method} is not allowed on '{call.request.path}'.",
            status=405,
        )

    async def _run_deployment(self, operation: Operation) -> None:
        inputs, target = operation.inputs or {}, parse(operation.target)
        found = self.cloud.store.get(target)
        target = found.id if found else target
        principal = inputs["principal"]

        def allow(written: ResourceId) -> None:
            refuse_denied(self.cloud.store, written, "write", principal)

        def is_canceled() -> bool:
            current = self.cloud.store.get(target)
            return current is not None and current.state == "Canceled"

        try:
            end_as_asked(operation)
            refuse_canceled(canceled=is_canceled())  # before it, or this process, began
            place = self.deployments.place(target, inputs["location"], principal)
            ledger = Ledger(correlation=operation.id, allow=allow, is_canceled=is_canceled)
            await self.deployments.run(target, inputs, place, ledger)
            if inputs.get("mode") == "Complete":
                await self._complete(place.id, ledger, principal)
        except ArmError as error:
            state = "Canceled" if error.code == "OperationCanceled" else "Failed"
            current = self.cloud.store.get(target)
            if current is not None and current.state not in ("Failed", "Canceled"):
                properties = {**current.properties, "error": error.inner()}
                body = {**current.body, "properties": properties}
                self.cloud.store.update(target, state=state, body=body)
            if error.code in _OWN_CODES:
                raise
            raise deployment_failed([error]) from error

    async def _complete(self, group: ResourceId, ledger: Ledger, principal: str) -> None:
        """Delete what the template of a complete deployment does not name."""
        gone = [
            one.id
            for one in self.cloud.store.below(group)
            if one.id.parent is None and is_listed(one) and one.key not in ledger.made
        ]
        for target in gone:
            refuse_denied(self.cloud.store, target, "delete", principal)
        await self.resources.remove_many(gone)

    async def _foresee(self, operation: Operation) -> dict[str, Any]:
        end_as_asked(operation)
        inputs, target = operation.inputs or {}, parse((operation.inputs or {})["id"])
        place = self.deployments.place(target, inputs["location"], inputs["principal"])
        forecaster = Forecaster(self.resources, self.deployments)
        found = await apart(forecaster.foresee, target, inputs, place)
        return result(found, inputs["format"])

    async def _delete_group(self, operation: Operation) -> None:
        end_as_asked(operation)
        await self.resources.remove_group(parse(operation.target))

    async def _put_resource(self, operation: Operation) -> None:
        end_as_asked(operation)
        target = parse((operation.inputs or {})["id"])
        await self.resources.put(target, (operation.inputs or {})["body"])

    async def _delete_resource(self, operation: Operation) -> None:
        end_as_asked(operation)
        await self.resources.remove(parse(operation.target))

    async def _power(self, operation: Operation) -> None:
        end_as_asked(operation)
        inputs = operation.inputs or {}
        await self.resources.power(parse(inputs["id"]), inputs["verb"])

    async def _repair_one(self, record: Record) -> str | None:
        try:
            if record.type == SCALE_SET.lower():
                await self.cloud.compute.ensure(scale_set_of(record, self.cloud))
            elif record.power is not None:
                await self.cloud.databases.stop(record.id.name)
            else:
                provider = self.resources.provider(record.id)
                await provider.realise(record, self.cloud)
        except (ArmError, StackError, OSError) as error:
            log.error("repair.failed %s %s", record.id.name, error)  # noqa: TRY400 — the reason says it all
            return f"{record.id.name}: {error}"
        return None


def refuse_canceled(*, canceled: bool) -> None:
    """Do not go on with what was canceled.

    Raises:
        ArmError: `OperationCanceled`.
    """
    if canceled:
        raise ArmError("OperationCanceled", "The deployment was canceled.")


_OWN_CODES = ("DeploymentFailed", "OperationCanceled")
