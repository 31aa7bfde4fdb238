"""Deployments through the unmodified SDK, as the cloud's pipeline makes them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from azure.core.credentials import AccessToken
from azure.core.exceptions import AzureError
from azure.core.pipeline.policies import SansIOHTTPPolicy
from azure.mgmt.resource.deployments.aio import DeploymentsMgmtClient

from local.app_settings import subscription_id
from local.errors import StackError

if TYPE_CHECKING:
    from types import TracebackType

    from local.home import Home

_POLL_S = 0.05
_ENDED = ("Succeeded", "Failed", "Canceled")


async def deploy_all(home: Home, bodies: dict[str, Any]) -> None:
    """Deploy each cluster's body under `shared-{cluster}`, all at once.

    Raises:
        StackError: one of them failed; the others were ended first.
    """
    client = DeploymentsMgmtClient(
        _Credential(home.secret("token")),
        subscription_id(home),
        base_url=f"http://127.0.0.1:{home.port('resource_manager')}",
        per_call_policies=[_AllowHttp()],
        use_env_settings=False,
    )
    async with client:
        ended = await asyncio.gather(
            *(_deploy(client, cluster, body) for cluster, body in bodies.items()),
            return_exceptions=True,
        )
    for error in ended:
        if isinstance(error, BaseException):
            raise error


async def _deploy(client: DeploymentsMgmtClient, cluster: str, body: dict[str, Any]) -> None:
    name, deployments = f"shared-{cluster}", client.deployments
    try:
        # Not by the SDK's poller: the server's Retry-After is a whole second.
        wanted: Any = body  # the SDK's overloads do not name the plain JSON that they take
        await deployments.begin_create_or_update_at_subscription_scope(
            name, wanted, polling=False
        )
        while True:
            found = await deployments.get_at_subscription_scope(name)
            state = found.properties.provisioning_state if found.properties else None
            if state in _ENDED:
                break
            await asyncio.sleep(_POLL_S)
    except AzureError as error:
        raise _failure(cluster, str(error)) from error
    if state != "Succeeded":
        raise _failure(cluster, str(found.properties and found.properties.error))


def _failure(cluster: str, reason: str) -> StackError:
    return StackError(
        f"The shared pieces of cluster {cluster} cannot be made: {reason}",
        remedy="logs/resource_manager.log says more.",
    )


class _AllowHttp(SansIOHTTPPolicy[Any, Any]):
    """The address is this machine's; there is no TLS on it."""

    def on_request(self, request: Any) -> None:  # noqa: ANN401 — PipelineRequest
        request.context.options["enforce_https"] = False


class _Credential:
    """The one token of the local control plane."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def get_token(self, *scopes: str, **kwargs: Any) -> AccessToken:  # noqa: ANN401 — the SDK's
        del scopes, kwargs
        return AccessToken(self._token, 4_000_000_000)

    async def close(self) -> None:
        return

    async def __aenter__(self) -> _Credential:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        return
