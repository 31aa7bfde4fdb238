"""`infra/space.json` and `infra/cluster.json` as stacks of the unmodified client."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError

from tests.local.resource_manager.clients import (
    Arm,
    a_cluster,
    group_template,
    infra,
    innermost,
    space_parameters,
    stack_body,
)


def a_space(arm: Arm, **changes: Any) -> Any:
    parameters = space_parameters(**changes)
    name = f"{parameters['spaceId']}-{parameters['incarnation']}"
    body = stack_body(infra("space.json"), parameters)
    return arm.stacks.begin_create_or_update_at_subscription(name, body).result()


def values(stack: Any) -> dict[str, Any]:
    return {name: one["value"] for name, one in stack.properties.outputs.items()}


def test_a_space_has_all_it_is_made_of(arm: Arm) -> None:
    a_cluster(arm)
    stack = a_space(arm)
    assert stack.properties.provisioning_state == "succeeded"
    assert values(stack) == {
        "resourceGroup": "rg-kx-s-abcdefghij-1",
        "databaseHost": "127.0.0.1:20000",
        "databaseAdminUser": "kpax_admin",
        "blobEndpoint": "http://127.0.0.1:1/kxsabcdefghij1/",
        "storageAccount": "kxsabcdefghij1",
        "vaultUri": "https://127.0.0.1/kv-s-abcdefghij-1/",
        "scaleSet": "vmss-s-abcdefghij-1",
    }
    cloud: Any = arm.cloud
    assert cloud.databases.passwords == {"pg-s-abcdefghij-1": "a-long-enough-password"}
    assert ("kxsabcdefghij1", "attachments") in cloud.containers.containers
    scale_set = cloud.compute.sets["vmss-s-abcdefghij-1"]
    assert (scale_set.capacity, scale_set.zones) == (2, ("1", "2"))
    assert (scale_set.memory_mib, scale_set.cpus) == (192, 2.0)
    assert scale_set.vault_uri == "https://127.0.0.1/kv-s-abcdefghij-1/"
    assert scale_set.vault_token == "reads-kv-s-abcdefghij-1"


def test_its_host_name_leads_to_its_instances(arm: Arm) -> None:
    a_cluster(arm)
    a_space(arm, plan="premium")
    (route,) = arm.cloud.routes.table  # type: ignore[attr-defined]
    assert (route.hostname, route.enabled) == ("acme.france.localhost", True)
    assert [(one.instance, one.zone) for one in route.origins] == [
        ("vmss-s-abcdefghij-1_0", "1"),
        ("vmss-s-abcdefghij-1_1", "2"),
        ("vmss-s-abcdefghij-1_2", "3"),
    ]


def test_a_suspended_space_keeps_its_row_in_the_front_door(arm: Arm) -> None:
    a_cluster(arm)
    a_space(arm)
    a_space(arm, routeEnabled=False)
    (route,) = arm.cloud.routes.table  # type: ignore[attr-defined]
    assert (route.hostname, route.enabled) == ("acme.france.localhost", False)


@pytest.mark.parametrize(
    ("plan", "wanted"),
    [
        ("starter", (2, 128, "Disabled", 64)),
        ("standard", (2, 192, "ZoneRedundant", 256)),
        ("premium", (3, 256, "ZoneRedundant", 1024)),
    ],
)
def test_the_plan_decides_sizes(arm: Arm, plan: str, wanted: tuple[Any, ...]) -> None:
    instances, memory, standby, storage = wanted
    a_cluster(arm)
    a_space(arm, plan=plan)
    cloud: Any = arm.cloud
    scale_set = cloud.compute.sets["vmss-s-abcdefghij-1"]
    assert (scale_set.capacity, scale_set.memory_mib) == (instances, memory)
    (server,) = cloud.store.of_type("Microsoft.DBforPostgreSQL/flexibleServers")
    assert server.properties["highAvailability"]["mode"] == standby
    assert server.properties["storage"]["storageSizeGB"] == storage


def test_a_new_config_revision_is_a_new_revision_of_the_instances_and_nothing_else(
    arm: Arm,
) -> None:
    a_cluster(arm)
    a_space(arm)
    a_space(arm)
    a_space(arm, configRevision="2")
    compute: Any = arm.cloud.compute
    first, again, changed = compute.history
    assert first.revision == again.revision != changed.revision
    assert (changed.capacity, changed.memory_mib) == (first.capacity, first.memory_mib)


def test_other_user_data_is_a_new_revision_too(arm: Arm) -> None:
    arm.groups.create_or_update("rg", {"location": "francecentral"})
    for word in ("one", "one", "two"):
        data = base64.b64encode(json.dumps({"vaultUri": word}).encode()).decode()
        scale_set = {
            "type": "Microsoft.Compute/virtualMachineScaleSets",
            "apiVersion": "2024-07-01",
            "name": "vmss",
            "location": "francecentral",
            "sku": {"name": "Standard_B1ms", "capacity": 1},
            "properties": {
                "orchestrationMode": "Flexible",
                "virtualMachineProfile": {"userData": data},
            },
        }
        body = {"properties": {"mode": "Incremental", "template": group_template(scale_set)}}
        arm.deployments.begin_create_or_update("rg", "d", body).result()
    compute: Any = arm.cloud.compute
    first, again, changed = (one.revision for one in compute.history)
    assert first == again != changed


def test_the_password_is_never_answered(arm: Arm) -> None:
    a_cluster(arm)
    stack = a_space(arm)
    secret = "a-long-enough-password"
    assert secret not in str(stack.as_dict())
    assert stack.properties.parameters["databaseAdminPassword"].as_dict() == {
        "type": "secureString"
    }
    shown = str([record.shown() for record in arm.cloud.store.all()])
    assert secret not in shown
    query = "select count(*) from operations where inputs is not null"
    assert arm.cloud.store._db.execute(query).fetchone() == (0,)


def test_nothing_is_left_of_a_deleted_space(arm: Arm) -> None:
    a_cluster(arm)
    before = {record.key for record in arm.cloud.store.all()}
    a_space(arm)
    arm.stacks.begin_delete_at_subscription(
        "s-abcdefghij-1",
        unmanage_action_resources="delete",
        unmanage_action_resource_groups="delete",
        unmanage_action_management_groups="delete",
        bypass_stack_out_of_sync_error=True,
    ).result()
    cloud: Any = arm.cloud
    assert {record.key for record in cloud.store.all()} == before
    assert cloud.databases.servers == {}
    assert set(cloud.accounts.accounts) == {"kxbakfrance"}
    assert set(cloud.vaults.vaults) == {"kv-kx-france"}
    assert cloud.compute.sets == {}
    assert cloud.routes.table == ()
    assert "s-abcdefghij" not in str([record.shown() for record in cloud.store.all()])


def test_a_vault_name_is_taken_until_it_is_purged(arm: Arm) -> None:
    a_cluster(arm)
    a_space(arm)
    arm.stacks.begin_delete_at_subscription(
        "s-abcdefghij-1", unmanage_action_resources="delete",
        unmanage_action_resource_groups="delete",
    ).result()  # fmt: skip
    with pytest.raises(HttpResponseError) as refused:
        a_space(arm)
    assert "ConflictError" in innermost(refused.value)
    assert a_space(arm, incarnation=2).properties.provisioning_state == "succeeded"


def test_a_space_without_its_cluster_fails_and_leaves_a_stack_to_delete(arm: Arm) -> None:
    with pytest.raises(HttpResponseError) as refused:
        a_space(arm)
    assert refused.value.error.code == "DeploymentStackDeploymentFailed"  # type: ignore[union-attr]
    assert "ResourceGroupNotFound" in innermost(refused.value)
    stack = arm.stacks.get_at_subscription("s-abcdefghij-1")
    assert stack.properties.provisioning_state == "failed"
    assert any("pg-s-abcdefghij-1" in one.id for one in stack.properties.resources)
    arm.stacks.begin_delete_at_subscription(
        "s-abcdefghij-1", unmanage_action_resources="delete",
        unmanage_action_resource_groups="delete",
    ).result()  # fmt: skip
    assert [record.id.name for record in arm.cloud.store.all()] == []


def test_a_cluster_has_its_vault_key_and_backup_account(arm: Arm) -> None:
    a_cluster(arm, "united-states")
    cloud: Any = arm.cloud
    assert ("kv-kx-united-states", "backup-kek") in cloud.vault_data.keys
    assert set(cloud.accounts.accounts) == {"kxbakunitedstates"}
