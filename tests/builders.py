"""Valid values that take only what a test is about."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

from spaces.model import (
    BackupId,
    BillingState,
    LastBackup,
    OpId,
    OpKind,
    OrderId,
    Resources,
    Running,
    Space,
    SpaceId,
    Status,
    Tier,
)
from spaces.ports import StackRequest
from spaces.settings import Settings, read
from tests.fakes import CLUSTER_VAULTS, CLUSTERS, START

SPACE_ID = SpaceId("s-7f2k3m4n5p6q7r2s")
ORDER_ID = OrderId("o-2a3b4c5d6e7f2g3h")


def a_space(**over: Any) -> Space:
    """An active standard space in France, with nothing running."""
    given: dict[str, Any] = {
        "space_id": SPACE_ID,
        "name": "acme",
        "status": Status.ACTIVE,
        "tier": Tier.STANDARD,
        "cluster": "france",
        "azure_region": "francecentral",
        "backup_region": "francecentral",
        "customer_ref": "c-42",
        "order_id": ORDER_ID,
        "created_at": START,
        "activated_at": START,
        "route_request": '{"country":"DE"}',
        "decision": "{}",
        "release": "2026.11.1",
        "subscription": "sub-1",
        "desired": "active",
        "billing": a_billing_state(),
        "resources": some_resources(str(over.get("space_id", SPACE_ID))),
    }
    return Space(**{**given, **over})


def a_requested_space(**over: Any) -> Space:
    """A space that was ordered and paid, before anything was built."""
    given: dict[str, Any] = {
        "status": Status.REQUESTED,
        "activated_at": None,
        "resources": None,
    }
    return a_space(**{**given, **over})


def some_resources(space_id: str = SPACE_ID, *, incarnation: int = 1) -> Resources:
    """Where the parts of a space are."""
    token = space_id.removeprefix("s-")
    return Resources(
        resource_group=f"rg-kx-{space_id}-{incarnation}",
        database_host=f"pg-kx-{token}-{incarnation}.postgres.database.azure.com",
        database_admin_user="kpax_admin",
        blob_endpoint=f"https://kx{token}{incarnation}.blob.core.windows.net/",
        storage_account=f"kx{token}{incarnation}",
        vault_uri=f"https://kx-{token}-{incarnation}.vault.azure.net/",
        scale_set=f"vmss-kx-{space_id}-{incarnation}",
    )


def a_billing_state(**over: Any) -> BillingState:
    """A paid standard subscription from Germany."""
    given: dict[str, Any] = {
        "sequence": 1,
        "status": "active",
        "plan": "standard",
        "quantity": 1,
        "currency": "EUR",
        "country": "DE",
        "period_end": datetime(2026, 12, 23, tzinfo=UTC),
        "grace_days": 14,
        "legal_hold": False,
        "customer_ref": "c-42",
    }
    return BillingState(**{**given, **over})


def a_running(**over: Any) -> Running:
    """A provisioning operation at its first step."""
    given: dict[str, Any] = {
        "op_id": OpId(f"op-{SPACE_ID}-0001"),
        "kind": OpKind.PROVISION,
        "steps": ("reserve", "deploy", "activate"),
        "started_at": START,
        "step_started_at": START,
        "step_deadline_at": datetime(2026, 11, 23, 10, 30, tzinfo=UTC),
        "next_poke_at": START,
    }
    return Running(**{**given, **over})


def a_last_backup(**over: Any) -> LastBackup:
    """A backup that finished and was proved."""
    given: dict[str, Any] = {
        "backup_id": BackupId("b-20261123T100000Z"),
        "completed_at": START,
        "verified_at": START,
    }
    return LastBackup(**{**given, **over})


def a_billing_event(
    *,
    sequence: int = 1,
    kind: str = "activated",
    event_id: str = "evt-1",
    subject: str = "sub-1",
    order_id: str | None = ORDER_ID,
    **snapshot: Any,
) -> str:
    """A billing event as the billing system puts it on the queue: CloudEvents JSON."""
    state = a_billing_state(**snapshot)
    told = {
        "status": state.status,
        "plan": state.plan,
        "quantity": state.quantity,
        "currency": state.currency,
        "country": state.country,
        "period_end": state.period_end.isoformat().replace("+00:00", "Z"),
        "grace_days": state.grace_days,
        "legal_hold": state.legal_hold,
        "customer_ref": state.customer_ref,
    }
    data: dict[str, object] = {"sequence": sequence, "snapshot": told}
    if order_id is not None:
        data["order_id"] = order_id
    return json.dumps(
        {
            "specversion": "1.0",
            "id": event_id,
            "source": "/billing",
            "type": f"billing.subscription.{kind}",
            "time": "2026-11-23T10:00:00Z",
            "subject": subject,
            "datacontenttype": "application/json",
            "data": data,
        }
    )


def a_stack_request(name: str = f"{SPACE_ID}-1", **over: Any) -> StackRequest:
    """A small stack: a resource group of its own with one resource, and an output."""
    given: dict[str, Any] = {
        "name": name,
        "location": "francecentral",
        "template": a_template(),
        "parameters": {"resourceGroup": f"rg-kx-{name}"},
        "tags": {"space_id": SPACE_ID},
    }
    return StackRequest(**{**given, **over})


def a_template() -> dict[str, object]:
    """ARM JSON at subscription scope: a resource group, and in it an identity of the same name."""
    return {
        "$schema": "https://schema.management.azure.com/schemas/2018-05-01/subscriptionDeploymentTemplate.json#",
        "contentVersion": "1.0.0.0",
        "parameters": {
            "resourceGroup": {"type": "string"},
            "location": {"type": "string", "defaultValue": "francecentral"},
        },
        "resources": [
            {
                "type": "Microsoft.Resources/resourceGroups",
                "apiVersion": "2024-03-01",
                "name": "[parameters('resourceGroup')]",
                "location": "[parameters('location')]",
            },
            {
                "type": "Microsoft.Resources/deployments",
                "apiVersion": "2024-03-01",
                "name": "identity",
                "resourceGroup": "[parameters('resourceGroup')]",
                "dependsOn": [
                    "[resourceId('Microsoft.Resources/resourceGroups', parameters('resourceGroup'))]"
                ],
                "properties": {
                    "mode": "Incremental",
                    "template": {
                        "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
                        "contentVersion": "1.0.0.0",
                        "resources": [
                            {
                                "type": "Microsoft.ManagedIdentity/userAssignedIdentities",
                                "apiVersion": "2023-01-31",
                                "name": "[parameters('resourceGroup')]",
                                "location": "[parameters('location')]",
                            }
                        ],
                    },
                },
            },
        ],
        "outputs": {"group": {"type": "string", "value": "[parameters('resourceGroup')]"}},
    }


def some_environment(**over: str) -> dict[str, str]:
    """Every setting that must be given, as names and texts; nothing in it answers."""
    return {
        "KPAX_STORAGE": (
            "DefaultEndpointsProtocol=http;AccountName=kpaxcontrol;AccountKey=a2V5;"
            "BlobEndpoint=http://127.0.0.1:9/kpaxcontrol;"
            "TableEndpoint=http://127.0.0.1:9/kpaxcontrol;"
        ),
        "ServiceBus": (
            "Endpoint=sb://127.0.0.1:9;SharedAccessKeyName=app;SharedAccessKey=a2V5;"
            "UseDevelopmentEmulator=true"
        ),
        "KPAX_ARM_ENDPOINT": "http://127.0.0.1:9",
        "KPAX_SUBSCRIPTION_ID": "4a1f3a52-2f0c-4b57-9c7e-0f7f2f6d3c10",
        "KPAX_STATIC_TOKEN": "token-of-nobody",
        "KPAX_CLUSTER_VAULTS": json.dumps(CLUSTER_VAULTS),
        "KPAX_BACKUP_ACCOUNTS": json.dumps(
            {
                name: f"https://kxbak{name.replace('-', '')}.blob.core.windows.net"
                for name in CLUSTERS
            }
        ),
        "KPAX_SPACE_DOMAIN": "localhost",
        "KPAX_SPACE_URL": "http://{host}:8080",
        "KPAX_DECISION_KEY": base64.b64encode(bytes(range(32))).decode(),
        "KPAX_ALLOW_SHARED_KEY": "true",
        "KPAX_API_KEY": "api-key-of-nobody",
        **over,
    }


def some_settings(**over: str) -> Settings:
    """Settings as the application reads them."""
    return read(some_environment(**over))
