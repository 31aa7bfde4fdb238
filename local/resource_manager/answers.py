"""Answers of the Resource Manager: bodies and the headers that long-running clients follow."""

from __future__ import annotations

import json
import os
import uuid
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from local.resource_manager.errors import ArmError
    from local.resource_manager.store import Operation

OPERATIONS = "providers/Microsoft.Resources/operationStatuses"
RESULTS = "providers/Microsoft.Resources/operationResults"


def retry_after() -> str:
    """Seconds until the next poll: whole ones, as on the service, unless a setting says less."""
    return os.environ.get("KPAX_ARM_RETRY_AFTER", "1")


def json_answer(
    body: Any,  # noqa: ANN401 — JSON
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> web.Response:
    """A JSON answer with the ids that the service puts on each."""
    request_id = str(uuid.uuid4())
    return web.Response(
        body=json.dumps(body).encode(),
        status=status,
        content_type="application/json",
        charset="utf-8",
        headers={
            "x-ms-request-id": request_id,
            "x-ms-correlation-request-id": request_id,
            "Cache-Control": "no-cache",
            **(headers or {}),
        },
    )


def error_answer(error: ArmError) -> web.Response:
    """An error in its envelope."""
    headers = {}
    if error.status in (429, 503):
        headers["Retry-After"] = retry_after()
    if error.status == 401:
        headers["WWW-Authenticate"] = (
            'Bearer authorization_uri="https://login.microsoftonline.com/"'
        )
    return json_answer(error.body(), status=error.status, headers=headers | error.headers)


def async_headers(request: web.Request, operation: Operation) -> dict[str, str]:
    """Both ways to follow an operation; clients prefer Azure-AsyncOperation."""
    return {
        "Azure-AsyncOperation": _url(request, OPERATIONS, operation.id),
        "Location": _url(request, RESULTS, operation.id),
        "Retry-After": retry_after(),
    }


def location_headers(request: web.Request, operation: Operation) -> dict[str, str]:
    """The older way alone."""
    return {"Location": _url(request, RESULTS, operation.id), "Retry-After": retry_after()}


def operation_status(operation: Operation) -> web.Response:
    """What `Azure-AsyncOperation` leads to."""
    said: dict[str, Any] = {
        "id": operation.id,
        "status": operation.status,
        "startTime": operation.started_at,
    }
    if operation.ended_at:
        said["endTime"] = operation.ended_at
    if operation.error:
        said["error"] = operation.error
    running = operation.status == "Running"
    return json_answer(said, headers={"Retry-After": retry_after()} if running else None)


def operation_result(request: web.Request, operation: Operation) -> web.Response:
    """What `Location` leads to: 202 while it runs, then the end as a status."""
    if operation.status == "Running":
        return json_answer({}, status=202, headers=location_headers(request, operation))
    if operation.status == "Succeeded":
        if operation.result is not None:
            return json_answer(operation.result)
        return web.Response(status=200)
    error = operation.error or {"code": "OperationCanceled", "message": "Canceled."}
    return json_answer({"error": error}, status=409)


def _url(request: web.Request, path: str, operation_id: str) -> str:
    subscription = request.path.split("/")[2]
    return (
        f"{request.url.origin()}/subscriptions/{subscription}/{path}/{operation_id}"
        f"?api-version=2025-04-01"
    )
