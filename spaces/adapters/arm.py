"""Azure Resource Manager by azure-mgmt-resource-deploymentstacks. Nothing here waits.

Each call is one request: the poller of the SDK says "succeeded" at once when it is told not to
poll, so only the provisioning state is read. What the client raises, and what that means:
local-stack.md 2.4.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, urlsplit

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.core.pipeline.policies import SansIOHTTPPolicy
from azure.core.rest import HttpRequest
from azure.mgmt.resource.deploymentstacks.aio import DeploymentStacksClient

from spaces import errors, telemetry
from spaces.adapters import arm_parts, arm_what_if
from spaces.adapters.wire import RAISED, classify, code_of, is_loopback, seconds
from spaces.ports import Instance, Part, PartKind, Power, Stack, StackRequest, StackState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from azure.core.credentials_async import AsyncTokenCredential

    from spaces.adapters.wire import Wire
    from spaces.ports import Foresight

_COMPUTE = "2024-07-01"
_STORAGE = "2024-01-01"

_BUSY = frozenset(
    {
        "DeploymentStackInNonTerminalState",
        "DeploymentActive",
        "AnotherOperationInProgress",
        "ServerIsBusy",
    }
)
_QUOTAS = frozenset(
    {
        "QuotaExceeded",
        "SubscriptionQuotaExceeded",
        "ResourceQuotaExceeded",
        "SkuNotAvailable",
        "ZonalAllocationFailed",
        "AllocationFailed",
        "OverconstrainedZonalAllocationRequest",
        "DeploymentStackQuotaExceeded",
        "MaxStorageAccountsCountPerSubscriptionExceeded",
    }
)
_FINAL = {
    "succeeded": StackState.SUCCEEDED,
    "failed": StackState.FAILED,
    "canceled": StackState.FAILED,
    "cancelled": StackState.FAILED,
}


class AllowHttp(SansIOHTTPPolicy[Any, Any]):
    """Lets the bearer policy send its token to this machine without TLS, and nowhere else."""

    def on_request(self, request: Any) -> None:  # noqa: ANN401 — PipelineRequest
        """Mark a request to a loopback address."""
        if is_loopback(request.http_request.url):
            request.context.options["enforce_https"] = False


class AzureArm:
    """The Resource Manager of one subscription."""

    def __init__(
        self,
        wire: Wire,
        *,
        endpoint: str,
        subscription: str,
        credential: AsyncTokenCredential,
        excluded_principal: str,
    ) -> None:
        self._subscription = subscription
        self._host = urlsplit(endpoint).hostname
        self._excluded_principal = excluded_principal
        options: dict[str, Any] = {"transport": wire.transport(telemetry.ARM_CALLS)}
        if is_loopback(endpoint):
            options["per_call_policies"] = [AllowHttp()]
            options["use_env_settings"] = False
        self._client = DeploymentStacksClient(
            credential, subscription, base_url=endpoint, retry_total=0, **options
        )

    async def put_stack(self, request: StackRequest) -> Stack:
        """Start or repeat the PUT of a stack; see the port."""
        body = self._body(request)
        seen = _Seen()
        try:
            stacks = self._client.deployment_stacks
            poller = await stacks.begin_create_or_update_at_subscription(
                request.name, body, polling=False, raw_response_hook=seen
            )
            answer = await poller.result()
        except RAISED as error:
            raise _meaning(error, f"stack {request.name}") from error
        return _stack(request.name, answer.as_dict(), seen)

    async def get_stack(self, name: str) -> Stack:
        """The stack by name; see the port."""
        seen = _Seen()
        try:
            answer = await self._client.deployment_stacks.get_at_subscription(
                name, raw_response_hook=seen
            )
        except ResourceNotFoundError as error:
            if code_of(error) == "DeploymentStackNotFound":
                return Stack(name=name, state=StackState.ABSENT)
            raise errors.UnknownError(
                f"neither the stack nor its absence was found [{code_of(error)}]",
                where=f"stack {name}",
                remedy="Check the subscription id and the endpoint.",
            ) from error
        except RAISED as error:
            raise _meaning(error, f"stack {name}", lost=errors.TransientError) from error
        return _stack(name, answer.as_dict(), seen)

    async def delete_stack(self, name: str) -> Stack:
        """Start the deletion of a stack and all it manages; see the port."""
        seen = _Seen()
        try:
            poller = await self._client.deployment_stacks.begin_delete_at_subscription(
                name,
                unmanage_action_resources="delete",
                unmanage_action_resource_groups="delete",
                unmanage_action_management_groups="delete",
                bypass_stack_out_of_sync_error=True,
                polling=False,
                raw_response_hook=seen,
            )
            await poller.result()
        except ResourceNotFoundError:
            return await self.get_stack(name)
        except RAISED as error:
            raise _meaning(error, f"stack {name}") from error
        state = StackState.ABSENT if seen.status == 204 else StackState.RUNNING
        return Stack(name=name, state=state, retry_after_s=seen.retry_after_s)

    async def list_stacks(self) -> list[Stack]:
        """All stacks of the subscription; see the port."""
        found: list[Stack] = []
        try:
            async for item in self._client.deployment_stacks.list_at_subscription():
                body = item.as_dict()
                shown = _stack(str(body["name"]), body, _Seen())
                found.append(replace(shown, outputs={}, parameters={}))
        except RAISED as error:
            raise _meaning(error, "the list of stacks", lost=errors.TransientError) from error
        return sorted(found, key=lambda stack: stack.name)

    async def what_if_stack(self, request: StackRequest, *, asked: str) -> Foresight:
        """What a PUT would change; see the port."""
        scope = f"/subscriptions/{self._subscription}/providers/Microsoft.Resources"
        results = self._client.deployment_stacks_what_if_results_at_subscription
        where = f"what-if of stack {request.name}"
        try:
            return await arm_what_if.foreseen(
                results, f"{request.name}-{asked}", self._body(request), scope, request.name
            )
        except RAISED as error:
            raise _meaning(error, where) from error

    async def instances(self, resource_group: str, scale_set: str) -> list[Instance]:
        """The machines of a scale set, in name order; none where the scale set is not there."""
        try:
            found = await self._machines(resource_group, scale_set)
        except errors.NotFoundError:
            return []
        return sorted(map(_instance, found), key=lambda instance: instance.name)

    async def power(self, part: Part) -> Power:
        """Whether it runs; see the port."""
        if part.kind is PartKind.MACHINES:
            found = await self._machines(part.resource_group, part.name)
            return arm_parts.of_machines(_power(item.get("properties") or {}) for item in found)
        url = self._group(part.resource_group) + arm_parts.address(part)
        shown = await self.call("GET", url, where=f"database server {part.name}")
        return arm_parts.of_database(shown.get("properties") or {})

    async def set_power(self, part: Part, *, on: bool) -> None:
        """Begin to start or to stop it; see the port."""
        url = self._group(part.resource_group) + arm_parts.address(
            part, arm_parts.verb(part, on=on)
        )
        await self.call("POST", url, where=f"{part.kind} {part.name}")

    async def purge_vault(self, name: str, location: str) -> bool:
        """Remove what a deleted vault left behind; see the port."""
        url = f"/subscriptions/{self._subscription}" + arm_parts.deleted_vault(name, location)
        try:
            await self.call("GET", url, where=f"deleted vault {name}")
            purge = url.replace("?", "/purge?")
            await self.call("POST", purge, where=f"deleted vault {name}")
        except errors.NotFoundError:
            return True
        return False

    async def storage_key(self, resource_group: str, account: str, number: int = 1) -> str:
        """One of the two access keys of a storage account."""
        where = f"storage account {account}"
        url = self._account(resource_group, account, "listKeys")
        keys = (await self.call("POST", url, where=where))["keys"]
        for key in keys:
            if key.get("keyName") == f"key{number}":
                return str(key["value"])
        raise errors.NotFoundError(f"the account has no key{number}", where=where)

    async def renew_storage_key(self, resource_group: str, account: str, number: int) -> None:
        """Let the account make this key anew; the old one opens nothing any more."""
        url = self._account(resource_group, account, "regenerateKey")
        body = {"keyName": f"key{number}"}
        await self.call("POST", url, where=f"storage account {account}", body=body)

    async def call(
        self, method: str, url: str, *, where: str, body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """One authorised request through the SDK's pipeline, for what no client is installed for.

        An answer without content is an empty object. Raises as a read does: `NotFoundError`,
        `DeniedError`, `ConflictError`, `ThrottledError`, `TransientError`.
        """
        try:
            response = await self._client.send_request(HttpRequest(method, url, json=body))
            response.raise_for_status()
            body = response.json() if response.content else {}
        except RAISED as error:
            raise _meaning(error, where, lost=errors.TransientError) from error
        if not isinstance(body, dict):
            raise errors.TransientError(
                "the Resource Manager's answer is no object", where=where
            )
        return cast("dict[str, Any]", body)

    async def close(self) -> None:
        """Release the client; the connections belong to the wire."""
        await self._client.close()

    async def _machines(self, resource_group: str, scale_set: str) -> list[dict[str, Any]]:
        """The instances as they are listed, with what they say of their power."""
        url: str | None = (
            f"{self._group(resource_group)}/providers/Microsoft.Compute/virtualMachineScaleSets/"
            f"{quote(scale_set, safe='')}/virtualMachines?$expand=instanceView"
            f"&api-version={_COMPUTE}"
        )
        found: list[dict[str, Any]] = []
        while url:
            page = await self.call("GET", url, where=f"scale set {scale_set}")
            found += page.get("value", [])
            url = self._next(page.get("nextLink"))
        return found

    def _body(self, request: StackRequest) -> Any:  # noqa: ANN401 — JSON, as the SDK takes it
        """What a PUT of the stack sends: all that it leaves out is deleted."""
        return {
            "location": request.location,
            "tags": dict(request.tags),
            "properties": {
                "template": dict(request.template),
                "parameters": {name: {"value": v} for name, v in request.parameters.items()},
                "actionOnUnmanage": {"resources": "delete", "resourceGroups": "delete"},
                "denySettings": {
                    "mode": "denyWriteAndDelete",
                    "excludedPrincipals": [self._excluded_principal],
                    "applyToChildScopes": False,
                },
            },
        }

    def _next(self, link: str | None) -> str | None:
        """The address of a further page, which gets our token and must be the same host's."""
        if link and urlsplit(link).hostname != self._host:
            raise errors.DeniedError("a further page is said to be on another host", where=link)
        return link

    def _account(self, resource_group: str, account: str, action: str) -> str:
        return (
            f"{self._group(resource_group)}/providers/Microsoft.Storage/storageAccounts/"
            f"{quote(account, safe='')}/{action}?api-version={_STORAGE}"
        )

    def _group(self, resource_group: str) -> str:
        return f"/subscriptions/{self._subscription}/resourceGroups/{quote(resource_group, safe='')}"


class _Seen:
    """Keeps what the answer says outside its body, which the SDK's models leave out."""

    def __init__(self) -> None:
        self.status = 0
        self.retry_after_s: float | None = None

    def __call__(self, response: Any) -> None:  # noqa: ANN401 — PipelineResponse
        answer = response.http_response
        self.status = answer.status_code
        self.retry_after_s = seconds(answer.headers.get("Retry-After"))


def _stack(name: str, body: Mapping[str, Any], seen: _Seen) -> Stack:
    properties: Mapping[str, Any] = body.get("properties") or {}
    word = str(properties.get("provisioningState") or "").lower()
    # a word that is new to us is waited for: the step's budget ends the waiting
    state = _FINAL.get(word, StackState.RUNNING)
    code = message = None
    if state is StackState.FAILED:
        code, message = innermost(properties.get("error"))
        code = code or (word.capitalize() if word else None)
    return Stack(
        name=name,
        state=state,
        outputs=_values(properties.get("outputs")),
        parameters=_values(properties.get("parameters")),
        tags=dict(body.get("tags") or {}),
        code=code,
        message=message,
        retry_after_s=seen.retry_after_s,
    )


def innermost(error: object) -> tuple[str | None, str | None]:
    """Code and message of the cause: the first detail of the first detail, to the bottom."""
    if not isinstance(error, dict):
        return None, None
    node = cast("dict[str, Any]", error)
    while isinstance(details := node.get("details"), list) and details:
        deeper = cast("list[Any]", details)[0]
        if not isinstance(deeper, dict):
            break
        node = cast("dict[str, Any]", deeper)
    return node.get("code"), node.get("message")


def _values(parts: object) -> dict[str, object]:
    if not isinstance(parts, dict):
        return {}
    named = cast("dict[str, Any]", parts)
    return {name: part.get("value") for name, part in named.items() if isinstance(part, dict)}


def _instance(item: Mapping[str, Any]) -> Instance:
    properties: Mapping[str, Any] = item.get("properties") or {}
    limits: Mapping[str, Any] = properties.get("limits") or {}
    zones = item.get("zones") or [""]
    return Instance(
        name=str(item.get("name", "")),
        zone=str(zones[0]),
        state=_power(properties),
        memory_mib=limits.get("memoryMib"),
        cpus=limits.get("cpus"),
        limited_by=limits.get("mechanism"),
    )


def _power(properties: Mapping[str, Any]) -> str:
    """The power state (`running`) where the answer tells one, else the provisioning's."""
    view: Mapping[str, Any] = properties.get("instanceView") or {}
    for status in view.get("statuses") or []:
        kind, _, word = str(status.get("code", "")).partition("/")
        if kind == "PowerState":
            return word
    told = properties.get("powerState") or properties.get("provisioningState") or ""
    return str(told).lower().removeprefix("vm ")


def _meaning(
    error: Exception, where: str, *, lost: type[errors.KpaxError] = errors.UnknownError
) -> errors.KpaxError:
    """What an error of the Resource Manager means; a 409 by its code, not by its class."""
    code = code_of(error) if isinstance(error, HttpResponseError) else None
    status = error.status_code if isinstance(error, HttpResponseError) else None
    what = f"the Resource Manager refused: {_text(error)} [{status} {code}]"
    if code in _QUOTAS or (code or "").endswith("QuotaExceeded"):
        return errors.QuotaError(what, where=where, remedy="Raise the quota: docs/running.md.")
    if code in _BUSY:
        return errors.ConflictError(what, where=where, remedy="Look at it by name.")
    return classify(error, "the Resource Manager", where=where, lost=lost)


def _text(error: Exception) -> str:
    if isinstance(error, HttpResponseError) and error.error is not None:
        _, message = innermost(_plain(error.error))
        if message:
            return message[:300]
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def _plain(error: Any) -> dict[str, Any]:  # noqa: ANN401 — azure-core's ODataV4Format
    details = [_plain(detail) for detail in getattr(error, "details", None) or []]
    return {"code": error.code, "message": error.message, "details": details}
