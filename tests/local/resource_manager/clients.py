"""Unmodified SDK clients of a Resource Manager, and templates to give them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from azure.core.credentials import AccessToken
from azure.core.pipeline.policies import SansIOHTTPPolicy
from azure.mgmt.resource.deployments import DeploymentsMgmtClient
from azure.mgmt.resource.deploymentstacks import DeploymentStacksClient
from azure.mgmt.resource.resources import ResourceManagementClient

from local.home import Home
from local.resource_manager.cloud import Cloud

INFRA = Path(__file__).resolve().parents[3] / "infra"


class AllowHttp(SansIOHTTPPolicy[Any, Any]):
    """As the product does for loopback addresses."""

    def on_request(self, request: Any) -> None:
        request.context.options["enforce_https"] = False


@dataclass
class Token:
    text: str

    def get_token(self, *scopes: str, **kwargs: Any) -> AccessToken:
        del scopes, kwargs
        return AccessToken(self.text, 4_000_000_000)


class AioToken(Token):
    """The same for clients that wait without blocking."""

    async def get_token(self, *scopes: str, **kwargs: Any) -> Any:  # type: ignore[override]
        return super().get_token(*scopes, **kwargs)

    async def close(self) -> None:
        return

    async def __aenter__(self) -> AioToken:
        return self

    async def __aexit__(self, *args: object) -> None:
        return


@dataclass
class Arm:
    """One running Resource Manager, and SDK clients of it."""

    home: Home
    cloud: Cloud
    clients: list[Any] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.home.port('resource_manager')}"

    @property
    def subscription(self) -> str:
        return self.cloud.subscription

    def client[T](self, kind: type[T], *, caller: str = "control-plane", **options: Any) -> T:
        made: Any = kind
        client = made(
            Token(self.cloud.identities.token(caller)),
            self.subscription,
            base_url=self.url,
            per_call_policies=[AllowHttp()],
            use_env_settings=False,
            polling_interval=0,
            **{"retry_total": 0, **options},
        )
        self.clients.append(client)
        return client

    @property
    def groups(self) -> Any:
        return self.client(ResourceManagementClient).resource_groups

    @property
    def stacks(self) -> Any:
        return self.client(DeploymentStacksClient).deployment_stacks

    @property
    def deployments(self) -> Any:
        return self.client(DeploymentsMgmtClient).deployments

    @property
    def tags(self) -> Any:
        return self.client(ResourceManagementClient).tags

    @property
    def resources(self) -> Any:
        return self.client(ResourceManagementClient).resources

    def fail(self, *faults: dict[str, Any]) -> None:
        path = self.home.path("resource_manager", "faults.json")
        path.write_text(json.dumps({"faults": list(faults)}))


def stack_body(
    template: dict[str, Any],
    parameters: dict[str, Any] | None = None,
    *,
    on_unmanage: str = "delete",
    deny: str = "none",
    excluded: list[str] | None = None,
    children: bool = False,
    location: str = "francecentral",
) -> dict[str, Any]:
    return {
        "location": location,
        "properties": {
            "template": template,
            "parameters": {k: {"value": v} for k, v in (parameters or {}).items()},
            "actionOnUnmanage": {"resources": on_unmanage, "resourceGroups": on_unmanage},
            "denySettings": {
                "mode": deny,
                "excludedPrincipals": excluded or [],
                "applyToChildScopes": children,
            },
        },
    }


def infra(name: str) -> dict[str, Any]:
    return json.loads((INFRA / name).read_text())


def a_cluster(arm: Arm, cluster: str = "france") -> None:
    body = stack_body(
        infra("cluster.json"),
        {"cluster": cluster, "allowSharedKey": True},
        on_unmanage="detach",
    )
    arm.stacks.begin_create_or_update_at_subscription(f"shared-{cluster}", body).result()


def space_parameters(**changes: Any) -> dict[str, Any]:
    return {
        "spaceId": "s-abcdefghij",
        "incarnation": 1,
        "name": "acme",
        "cluster": "france",
        "location": "francecentral",
        "plan": "standard",
        "hostName": "acme.france.localhost",
        "release": "2026.11.1",
        "configRevision": "1",
        "databaseAdminPassword": "a-long-enough-password",
        "allowSharedKey": True,
        **changes,
    }


def subscription_template(
    *resources: dict[str, Any], outputs: dict[str, Any] | None = None, **parts: Any
) -> dict[str, Any]:
    return {
        "$schema": "https://schema.management.azure.com/schemas/2018-05-01/"
        "subscriptionDeploymentTemplate.json#",
        "contentVersion": "1.0.0.0",
        **parts,
        "resources": list(resources),
        "outputs": outputs or {},
    }


def group_template(
    *resources: dict[str, Any], outputs: dict[str, Any] | None = None, **parts: Any
) -> dict[str, Any]:
    return {
        "$schema": "https://schema.management.azure.com/schemas/2019-04-01/"
        "deploymentTemplate.json#",
        "contentVersion": "1.0.0.0",
        **parts,
        "resources": list(resources),
        "outputs": outputs or {},
    }


def a_network(name: str = "net", **parts: Any) -> dict[str, Any]:
    return {
        "type": "Microsoft.Network/virtualNetworks",
        "apiVersion": "2024-05-01",
        "name": name,
        "location": "francecentral",
        "properties": {"addressSpace": {"addressPrefixes": ["10.0.0.0/16"]}},
        **parts,
    }


def an_account(name: str = "someaccount", **parts: Any) -> dict[str, Any]:
    return {
        "type": "Microsoft.Storage/storageAccounts",
        "apiVersion": "2024-01-01",
        "name": name,
        "location": "francecentral",
        "kind": "StorageV2",
        "sku": {"name": "Standard_ZRS"},
        "properties": {},
        **parts,
    }


def a_group(name: str = "rg", **parts: Any) -> dict[str, Any]:
    return {
        "type": "Microsoft.Resources/resourceGroups",
        "apiVersion": "2025-04-01",
        "name": name,
        "location": "francecentral",
        **parts,
    }


def nested(name: str, group: str, template: dict[str, Any], **parts: Any) -> dict[str, Any]:
    return {
        "type": "Microsoft.Resources/deployments",
        "apiVersion": "2025-04-01",
        "name": name,
        "resourceGroup": group,
        "properties": {
            "mode": "Incremental",
            "expressionEvaluationOptions": {"scope": "inner"},
            "template": template,
            **parts.pop("properties", {}),
        },
        "dependsOn": [
            f"[subscriptionResourceId('Microsoft.Resources/resourceGroups', '{group}')]"
        ],
        **parts,
    }


def innermost(error: Any) -> str:
    """The code of the cause: the first detail of the first detail, to the bottom."""
    node = error.error
    while node.details:
        node = node.details[0]
    return str(node.code)
