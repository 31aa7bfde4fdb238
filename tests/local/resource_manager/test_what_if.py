"""What a deployment would change: everything that it would, and nothing else."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.mgmt.resource.deployments.aio import DeploymentsMgmtClient as AioDeployments

from tests.local.resource_manager.clients import (
    AioToken,
    AllowHttp,
    Arm,
    a_group,
    a_network,
    an_account,
    group_template,
    infra,
    nested,
    space_parameters,
    subscription_template,
)


def body(template: dict[str, Any], how: str = "", **parameters: Any) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "mode": "Incremental",
        "template": template,
        "parameters": {name: {"value": one} for name, one in parameters.items()},
    }
    if how:
        properties["whatIfSettings"] = {"resultFormat": how}
    return {"properties": properties}


def deploy(arm: Arm, template: dict[str, Any], mode: str = "Incremental", **given: Any) -> None:
    arm.groups.create_or_update("rg", {"location": "francecentral"})
    asked = body(template, **given)
    asked["properties"]["mode"] = mode
    arm.deployments.begin_create_or_update("rg", "d", asked).result()


def what_if(
    arm: Arm, template: dict[str, Any], mode: str = "Incremental", **given: Any
) -> dict[str, Any]:
    """The changes by name, and all of the state untouched by asking."""
    asked = body(template, **given)
    asked["properties"]["mode"] = mode
    before = arm.cloud.store.all()
    found = arm.deployments.begin_what_if("rg", "d", asked).result()
    assert found.status == "Succeeded"
    assert arm.cloud.store.all() == before
    return {one.resource_id.rpartition("/")[2]: one for one in found.properties.changes}


def paths(change: Any) -> list[tuple[str, str]]:
    return [(one.property_change_type, one.path) for one in change.delta or []]


def test_a_new_resource_is_created(arm: Arm) -> None:
    arm.groups.create_or_update("rg", {"location": "francecentral"})
    change = what_if(arm, group_template(a_network()))["net"]
    assert change.change_type == "Create"
    assert change.before is None
    assert change.after["location"] == "francecentral"
    assert change.after["properties"] == a_network()["properties"]
    assert change.after["type"] == "Microsoft.Network/virtualNetworks"


def test_what_stays_as_it_is_is_no_change_without_noise(arm: Arm) -> None:
    template = group_template(
        a_network(properties={
            "addressSpace": {"addressPrefixes": ["10.0.0.0/16"]},
            "subnets": [{"name": "a", "properties": {"addressPrefix": "10.0.0.0/24"}}],
        }),
        an_account(tags={"of": "[reference('net').addressSpace.addressPrefixes[0]]"}),
    )  # fmt: skip
    deploy(arm, template)
    again = copy.deepcopy(template)
    again["resources"][0]["location"] = "France Central"
    again["resources"][1]["tags"]["of"] += ""
    changes = what_if(arm, again)
    assert {(name, one.change_type) for name, one in changes.items()} == {
        ("net", "NoChange"),
        ("someaccount", "NoChange"),
    }
    assert [one.delta for one in changes.values()] == [[], []]
    assert changes["net"].before["properties"]["resourceGuid"]


def test_changes_are_told_by_the_path_of_the_property(arm: Arm) -> None:
    prefixes = {"addressPrefixes": ["10.0.0.0/16", "10.1.0.0/16"]}
    subnets = [{"name": "a", "properties": {"addressPrefix": "10.0.0.0/24"}}, {"name": "b"}]
    deploy(arm, group_template(a_network(
        tags={"stays": "1", "changes": "1", "goes": "1"},
        properties={"addressSpace": prefixes, "subnets": subnets, "mtu": 1500},
    )))  # fmt: skip
    after = a_network(
        tags={"stays": "1", "changes": "2", "comes": "1"},
        properties={
            "addressSpace": {"addressPrefixes": ["10.1.0.0/16", "10.2.0.0/16"]},
            "subnets": [{"name": "b"}, {"name": "a", "properties": {"addressPrefix": "x"}}],
        },
    )
    change = what_if(arm, group_template(after))["net"]
    assert change.change_type == "Modify"
    assert sorted(paths(change)) == [
        ("Array", "properties.addressSpace.addressPrefixes"),
        ("Array", "properties.subnets"),
        ("Create", "tags.comes"),
        ("Delete", "properties.mtu"),
        ("Delete", "tags.goes"),
        ("Modify", "tags.changes"),
    ]
    by_path = {one.path: one for one in change.delta}
    assert (by_path["tags.changes"].before, by_path["tags.changes"].after) == ("1", "2")
    assert by_path["tags.goes"].before == "1"
    items = by_path["properties.addressSpace.addressPrefixes"].children
    assert [(one.path, one.property_change_type, one.before, one.after) for one in items] == [
        ("1", "Modify", "10.0.0.0/16", "10.2.0.0/16")
    ]
    (item,) = by_path["properties.subnets"].children
    assert [(one.path, one.after) for one in item.children] == [
        ("properties.addressPrefix", "x")
    ]


def test_another_order_of_an_array_is_a_change(arm: Arm) -> None:
    def net(*prefixes: str) -> dict[str, Any]:
        return group_template(
            a_network(properties={"addressSpace": {"addressPrefixes": list(prefixes)}})
        )

    deploy(arm, net("10.0.0.0/16", "10.1.0.0/16"))
    (change,) = what_if(arm, net("10.1.0.0/16", "10.0.0.0/16"))["net"].delta
    assert [(one.path, one.before, one.after) for one in change.children] == [
        ("0", "10.0.0.0/16", "10.1.0.0/16"),
        ("1", "10.1.0.0/16", "10.0.0.0/16"),
    ]


def test_deploying_does_what_was_foreseen(arm: Arm) -> None:
    deploy(arm, group_template(a_network(), an_account()))
    wanted = group_template(
        a_network(tags={"a": "b"}), an_account("another", sku={"name": "Standard_LRS"})
    )
    changes = what_if(arm, wanted)
    assert {name: one.change_type for name, one in changes.items()} == {
        "net": "Modify",
        "another": "Create",
        "someaccount": "Ignore",
    }
    foreseen = changes["net"].after
    deploy(arm, wanted)
    made = next(one for one in arm.cloud.store.all() if one.id.name == "net").shown()
    assert foreseen["tags"] == made["tags"]
    assert foreseen["properties"].items() <= made["properties"].items()
    assert {one.change_type for one in what_if(arm, wanted).values()} == {"NoChange", "Ignore"}


def test_drift_by_hand_is_seen(arm: Arm) -> None:
    template = group_template(an_account(tags={"a": "1"}))
    deploy(arm, template)
    record = next(one for one in arm.cloud.store.all() if one.id.name == "someaccount")
    arm.tags.begin_update_at_scope(
        str(record.id), {"operation": "Merge", "properties": {"tags": {"a": "2", "b": "3"}}}
    )
    change = what_if(arm, template)["someaccount"]
    assert sorted(paths(change)) == [("Delete", "tags.b"), ("Modify", "tags.a")]


def test_a_complete_deployment_deletes_what_it_does_not_name(arm: Arm) -> None:
    deploy(arm, group_template(a_network(), an_account()))
    change = what_if(arm, group_template(a_network()), mode="Complete")["someaccount"]
    assert change.change_type == "Delete"
    assert change.before["name"] == "someaccount"
    assert change.after is None
    deploy(arm, group_template(a_network()), mode="Complete")
    kinds = [one.id.name for one in arm.cloud.store.all() if "/deployments" not in one.key]
    assert sorted(kinds) == ["net", "rg"]
    with pytest.raises(HttpResponseError, match="InvalidDeploymentMode"):
        arm.deployments.begin_create_or_update_at_subscription_scope(
            "d",
            {
                "location": "francecentral",
                "properties": {"mode": "Complete", "template": subscription_template()},
            },
        )


def test_ids_alone_are_enough_for_some(arm: Arm) -> None:
    deploy(arm, group_template(a_network()))
    asked = group_template(a_network(tags={"a": "1"}), an_account())
    changes = what_if(arm, asked, how="ResourceIdOnly")
    assert {name: one.change_type for name, one in changes.items()} == {
        "net": "Deploy",
        "someaccount": "Create",
    }
    assert changes["net"].after is None
    with pytest.raises(HttpResponseError, match="InvalidRequestContent"):
        what_if(arm, asked, how="Everything")


def test_what_depends_on_something_new_is_told_by_its_expression(arm: Arm) -> None:
    deploy(arm, group_template(a_network(tags={"from": "before"})))
    text = "[reference('someaccount').primaryEndpoints.blob]"
    change = what_if(arm, group_template(an_account(), a_network(tags={"from": text})))["net"]
    assert [(one.path, one.before, one.after) for one in change.delta] == [
        ("tags.from", "before", text)
    ]


def test_what_depends_on_something_changed_is_foreseen(arm: Arm) -> None:
    text = "[reference('someaccount', '2024-01-01', 'Full').tags.a]"
    net = a_network(tags={"from": text}, dependsOn=["someaccount"])
    deploy(arm, group_template(an_account(tags={"a": "1"}), net))
    change = what_if(arm, group_template(an_account(tags={"a": "2"}), net))["net"]
    assert [(one.path, one.before, one.after) for one in change.delta] == [
        ("tags.from", "1", "2")
    ]


def test_secrets_are_compared_and_never_shown(arm: Arm) -> None:
    vault = {
        "type": "Microsoft.KeyVault/vaults",
        "apiVersion": "2023-07-01",
        "name": "some-vault",
        "location": "francecentral",
        "properties": {
            "tenantId": "[subscription().tenantId]",
            "sku": {"family": "A", "name": "standard"},
        },
    }
    secret = {
        "type": "Microsoft.KeyVault/vaults/secrets",
        "apiVersion": "2023-07-01",
        "name": "some-vault/word",
        "dependsOn": ["some-vault"],
        "properties": {"value": "[parameters('word')]"},
    }
    tags = {"leak": "[concat('is ', parameters('word'))]"}
    template = group_template(
        {**vault, "tags": tags}, secret, parameters={"word": {"type": "securestring"}}
    )
    deploy(arm, template, word="first-secret")
    same = what_if(arm, template, word="first-secret")
    assert {one.change_type for one in same.values()} == {"NoChange"}
    found = arm.deployments.begin_what_if("rg", "d", body(template, word="second-secret"))
    changes = {
        one.resource_id.rpartition("/")[2]: one for one in found.result().properties.changes
    }
    assert paths(changes["word"]) == [("Modify", "properties.value")]
    assert paths(changes["some-vault"]) == [("Modify", "tags.leak")]
    assert "second-secret" not in str([one.as_dict() for one in changes.values()])


def test_nested_deployments_are_looked_into(arm: Arm) -> None:
    inner = group_template(
        a_network("[concat(parameters('name'), '-net')]"),
        parameters={"name": {"type": "string"}},
        outputs={"made": {"type": "string", "value": "[concat(parameters('name'), '-net')]"}},
    )
    first = nested("fill", "rg", inner, properties={"parameters": {"name": {"value": "x"}}})
    second = nested(
        "more",
        "rg",
        group_template(
            an_account(tags={"net": "[parameters('net')]"}),
            parameters={"net": {"type": "string"}},
        ),
        properties={"parameters": {"net": {"value": "[reference('fill').outputs.made.value]"}}},
    )
    template = subscription_template(a_group(), first, second)
    asked = {"location": "francecentral", **body(template)}

    def kinds() -> dict[str, str]:
        deployments = arm.deployments
        found = deployments.begin_what_if_at_subscription_scope("d", asked).result()
        assert not found.properties.diagnostics
        changes = found.properties.changes
        return {one.resource_id.rpartition("/")[2]: one.change_type for one in changes}

    assert kinds() == {"rg": "Create", "x-net": "Create", "someaccount": "Create"}
    arm.deployments.begin_create_or_update_at_subscription_scope("d", asked).result()
    assert kinds() == {"rg": "NoChange", "x-net": "NoChange", "someaccount": "NoChange"}


def test_a_nested_template_with_names_not_known_yet_is_told_of(arm: Arm) -> None:
    inner = group_template(
        a_network("[parameters('name')]"), parameters={"name": {"type": "string"}}
    )
    text = "[reference('someaccount').primaryEndpoints.blob]"
    fill = nested(
        "fill", "rg", inner, properties={"parameters": {"name": {"value": text}}}, dependsOn=[]
    )
    arm.groups.create_or_update("rg", {"location": "francecentral"})
    found = arm.deployments.begin_what_if("rg", "d", body(group_template(an_account(), fill)))
    (diagnostic,) = found.result().properties.diagnostics
    assert diagnostic.code == "NestedDeploymentShortCircuited"
    assert diagnostic.target.endswith("/fill")


def test_a_space_that_stands_has_no_changes(arm: Arm) -> None:
    for cluster in ("france",):
        given = {"cluster": {"value": cluster}, "controlPlanePrincipalId": {"value": "x"},
                 "allowSharedKey": {"value": True}}  # fmt: skip
        shared = {"location": "francecentral", "properties": {
            "mode": "Incremental", "template": infra("cluster.json"), "parameters": given,
        }}  # fmt: skip
        arm.deployments.begin_create_or_update_at_subscription_scope("c", shared).result()
    asked = {"location": "francecentral", **body(infra("space.json"), **space_parameters())}
    arm.deployments.begin_create_or_update_at_subscription_scope("d", asked).result()
    found = arm.deployments.begin_what_if_at_subscription_scope("d", asked).result()
    assert {
        (one.resource_id.rpartition("/")[2], one.change_type, str(paths(one)))
        for one in found.properties.changes
        if one.change_type not in ("NoChange", "Ignore")
    } == set()
    assert len(found.properties.changes) > 20
    more = body(infra("space.json"), **space_parameters(configRevision="2"))
    found = arm.deployments.begin_what_if_at_subscription_scope(
        "d", {"location": "francecentral", **more}
    ).result()
    changed = [one for one in found.properties.changes if one.change_type == "Modify"]
    assert [one.resource_id.split("/")[-2] for one in changed] == ["virtualMachineScaleSets"]


@pytest.mark.parametrize(
    ("resource", "code"),
    [
        (an_account(location="nowhere"), "LocationNotAvailableForResourceType"),
        (an_account("UPPER"), "AccountNameInvalid"),
        (an_account(type="Microsoft.Nothing/here"), "InvalidResourceNamespace"),
        (an_account(tags={"a": "[nonsense()]"}), "InvalidTemplate"),
    ],
)
def test_a_wrong_template_is_refused_at_once(
    arm: Arm, resource: dict[str, Any], code: str
) -> None:
    arm.groups.create_or_update("rg", {"location": "francecentral"})
    with pytest.raises(HttpResponseError) as refused:
        arm.deployments.begin_what_if("rg", "d", body(group_template(resource)))
    assert refused.value.error.code == code  # type: ignore[union-attr]


async def test_the_aio_client_asks_the_same(arm: Arm) -> None:
    arm.groups.create_or_update("rg", {"location": "francecentral"})
    client = AioDeployments(
        AioToken(arm.home.secret("token")),
        arm.subscription,
        base_url=arm.url,
        per_call_policies=[AllowHttp()],
        use_env_settings=False,
        polling_interval=0,
        retry_total=0,
    )
    async with client:
        deployments: Any = client.deployments
        poller = await deployments.begin_what_if("rg", "d", body(group_template(a_network())))
        found = await poller.result()
    assert [one.change_type for one in found.properties.changes] == ["Create"]
