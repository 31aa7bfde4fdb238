"""Long-running operations: each is a row before it is a task, and ends as a row.

After a restart every row that still runs becomes a task again; what it does may be repeated.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from local.resource_manager.budget import budgeted
from local.resource_manager.errors import ArmError, TemplateError
from local.resource_manager.store import Operation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from local.resource_manager.ids import ResourceId
    from local.resource_manager.store import Store

log = logging.getLogger("local.resource_manager")
_KEPT = timedelta(days=1)


class Operations:
    """Starts, ends, remembers and resumes operations."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kinds: dict[str, Callable[[Operation], Awaitable[dict[str, Any] | None]]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def handle(
        self, kind: str, work: Callable[[Operation], Awaitable[dict[str, Any] | None]]
    ) -> None:
        """What an operation of this kind does, and what its client gets at the end.

        It may be called again after a restart.
        """
        self._kinds[kind] = work

    def start(
        self,
        kind: str,
        target: ResourceId,
        inputs: dict[str, Any] | None = None,
        *,
        end_as: dict[str, Any] | None = None,
    ) -> Operation:
        """Write the operation down and begin it; `end_as` is a fault that decides its end."""
        operation = self._store.save(
            Operation(
                id=str(uuid.uuid4()),
                kind=kind,
                target=target.key,
                status="Running",
                started_at=now(),
                inputs={**(inputs or {}), "end_as": end_as},
            )
        )
        self._begin(operation)
        return operation

    def get(self, operation_id: str) -> Operation | None:
        """One operation."""
        return self._store.operation(operation_id)

    def busy(self, target: ResourceId) -> bool:
        """Whether something runs on this target."""
        return bool(self._store.running(target.key))

    def resume(self) -> int:
        """Begin again what a dead process left running; how many."""
        self._store.drop_ended((datetime.now(UTC) - _KEPT).isoformat())
        running = [one for one in self._store.running() if one.id not in self._tasks]
        for operation in running:
            log.info("operation.resumed %s %s", operation.kind, operation.target)
            self._begin(operation)
        return len(running)

    async def settled(self) -> None:
        """Wait for everything that runs now."""
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def stop(self) -> None:
        """End the tasks; their rows go on running, and are resumed by the next process."""
        for task in list(self._tasks.values()):
            task.cancel()
        await self.settled()

    def _begin(self, operation: Operation) -> None:
        task = asyncio.create_task(self._run(operation), name=f"{operation.kind}")
        self._tasks[operation.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(operation.id, None))

    async def _run(self, operation: Operation) -> None:
        error: dict[str, Any] | None = None
        result: dict[str, Any] | None = None
        status = "Succeeded"
        try:
            with budgeted():
                result = await self._kinds[operation.kind](operation)
        except ArmError as refused:
            status, error = "Failed", refused.inner()
            if refused.code == "OperationCanceled":
                status, error = "Canceled", None
        except RecursionError:
            too_deep = TemplateError("The template is nested too deeply")
            status, error = "Failed", too_deep.inner()
        except Exception:  # the last resort: an operation must not run for ever
            log.exception("operation.broke %s %s", operation.kind, operation.target)
            status = "Failed"
            error = {
                "code": "InternalServerError",
                "message": "See the Resource Manager's log.",
            }
        ended = replace(
            operation,
            status=status,
            error=error,
            inputs=None,
            ended_at=now(),
            result=result,
        )
        self._store.save(ended)
        log.info("operation.ended %s %s %s", operation.kind, operation.target, status)


def now() -> str:
    """The time as the service writes it."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def end_as_asked(operation: Operation) -> None:
    """Where a fault asks for it, end as Failed or Canceled.

    Raises:
        ArmError: the end.
    """
    fault = (operation.inputs or {}).get("end_as")
    if fault is None:
        return
    if str(fault.get("status", "")).lower() == "canceled":
        raise ArmError("OperationCanceled", "Canceled.")
    code = fault.get("code", "Conflict")
    raise deployment_failed(
        [ArmError(code, fault.get("message", "Asked for by a fault file."))]
    )


def deployment_failed(causes: list[ArmError]) -> ArmError:
    """The error of a deployment: one code for all, the causes inside."""
    return ArmError(
        "DeploymentFailed",
        "At least one resource deployment operation failed. Please list deployment operations "
        "for details. Please see https://aka.ms/arm-deployment-operations for usage details.",
        details=tuple(cause.inner() for cause in causes),
    )
