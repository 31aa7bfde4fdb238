"""What a template means, and what is refused before anything is made."""

from __future__ import annotations

from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError

from tests.local.resource_manager.clients import (
    Arm,
    a_group,
    a_network,
    an_account,
    group_template,
    innermost,
    nested,
    subscription_template,
)


def deploy(arm: Arm, template: dict[str, Any], **parameters: Any) -> Any:
    """A deployment into the group `rg`; its outputs."""
    arm.groups.create_or_update("rg", {"location": "francecentral"})
    body = {
        "properties": {
            "mode": "Incremental",
            "template": template,
            "parameters": {name: {"value": one} for name, one in parameters.items()},
        }
    }
    done = arm.deployments.begin_create_or_update("rg", "d", body).result()
    return {name: one["value"] for name, one in (done.properties.outputs or {}).items()}


def outputs(**texts: str) -> dict[str, Any]:
    kinds = {"n": "int", "l": "array", "o": "object"}
    return {
        name: {"type": kinds.get(name[0], "string"), "value": text}
        for name, text in texts.items()
    }


def refused(arm: Arm, template: dict[str, Any], **parameters: Any) -> str:
    """The code and the message of a refusal; nothing may have been made."""
    with pytest.raises(HttpResponseError) as error:
        deploy(arm, template, **parameters)
    assert error.value.status_code == 400
    made = [one.id.name for one in arm.cloud.store.all()]
    assert made == ["rg"], "something was made"
    found: Any = error.value.error
    return f"{found.code}: {found.message}"


def test_values_flow_from_parameters_to_outputs(arm: Arm) -> None:
    template = group_template(
        parameters={
            "name": {"type": "string", "defaultValue": "[toLower('ACME')]"},
            "suffix": {"type": "string", "defaultValue": "[concat(parameters('name'), '1')]"},
        },
        variables={
            "greeting": "[concat('hello ', variables('whom'))]",
            "whom": "[parameters('suffix')]",
            "copy": [
                {"name": "squares", "count": 3, "input": "[mul(copyIndex(), copyIndex())]"}
            ],
        },
        functions=[
            {
                "namespace": "own",
                "members": {
                    "double": {
                        "parameters": [{"name": "x", "type": "int"}],
                        "output": {"type": "int", "value": "[mul(2, parameters('x'))]"},
                    }
                },
            }
        ],
        outputs=outputs(
            s="[variables('greeting')]", l="[variables('squares')]", n="[own.double(21)]"
        ),
    )
    assert deploy(arm, template) == {"s": "hello acme1", "l": [0, 1, 4], "n": 42}
    assert deploy(arm, template, name="x")["s"] == "hello x1"


def test_references_wait_for_what_they_ask_about(arm: Arm) -> None:
    template = group_template(
        an_account(
            "second",
            tags={"first": "[reference('firstaccount').primaryEndpoints.blob]"},
        ),
        an_account("firstaccount"),
        outputs=outputs(
            s="[reference('second', '2024-01-01', 'Full').tags.first]",
            key="[listKeys('firstaccount', '2024-01-01').keys[0].value]",
        ),
    )
    arm.fail({"kind": "slow", "type": "Microsoft.Storage/storageAccounts",
              "name": "firstaccount", "for_s": 0.2})  # fmt: skip
    found = deploy(arm, template)
    assert found == {"s": "http://127.0.0.1:1/firstaccount/", "key": "a2V5"}


def test_conditions_loops_and_children_make_what_they_say(arm: Arm) -> None:
    template = group_template(
        a_network("not-made", condition="[equals(1, 2)]"),
        an_account("[concat('account', copyIndex(1))]", copy={"name": "accounts", "count": 3}),
        {
            **an_account("parent"),
            "dependsOn": ["accounts", "not-made"],
            "resources": [
                {
                    "type": "blobServices",
                    "apiVersion": "2024-01-01",
                    "name": "default",
                    "dependsOn": [
                        "[resourceId('Microsoft.Storage/storageAccounts', 'parent')]"
                    ],
                    "properties": {},
                }
            ],
        },
    )
    deploy(arm, template)
    made = {one.id.full_name for one in arm.cloud.store.all()} - {"rg", "d"}
    assert made == {"account1", "account2", "account3", "parent", "parent/default"}


def test_symbolic_names_are_names_too(arm: Arm) -> None:
    template = group_template(languageVersion="2.0")
    template["resources"] = {
        "files": an_account("filesaccount"),
        "net": a_network("net", dependsOn=["files"]),
        "old": {
            "existing": True,
            "type": "Microsoft.Storage/storageAccounts",
            "apiVersion": "2024-01-01",
            "name": "filesaccount2",
        },
    }
    template["outputs"] = outputs(s="[reference('files').statusOfPrimary]")
    assert deploy(arm, template) == {"s": "available"}
    assert "filesaccount2" not in {one.id.name for one in arm.cloud.store.all()}


@pytest.mark.parametrize(("scope", "wanted"), [("inner", "inside"), ("outer", "outside")])
def test_a_nested_template_is_evaluated_in_its_scope(arm: Arm, scope: str, wanted: str) -> None:
    inner = group_template(
        an_account("[concat(variables('where'), 'acc')]"),
        variables={"where": "inside"},
        outputs=outputs(s="[resourceGroup().name]"),
    )
    step = nested("inner", "other", inner)
    step["properties"]["expressionEvaluationOptions"] = {"scope": scope}
    del step["dependsOn"]
    arm.groups.create_or_update("other", {"location": "uksouth"})
    template = group_template(
        step,
        variables={"where": "outside"},
        outputs=outputs(
            s="[reference(resourceId('other', 'Microsoft.Resources/deployments', 'inner'), "
            "'2025-04-01').outputs.s.value]"
        ),
    )
    found = deploy(arm, template)
    (account,) = arm.cloud.store.of_type("Microsoft.Storage/storageAccounts")
    assert (account.id.name, account.id.group) == (f"{wanted}acc", "other")
    assert found == {"s": "other" if scope == "inner" else "rg"}


def test_a_subscription_template_makes_groups_and_fills_them(arm: Arm) -> None:
    inside = group_template(an_account("filling", location="[resourceGroup().location]"))
    template = subscription_template(a_group("new"), nested("fill", "new", inside))
    properties = {"mode": "Incremental", "template": template}
    body = {"location": "francecentral", "properties": properties}
    done = arm.deployments.begin_create_or_update_at_subscription_scope("d", body).result()
    assert done.properties.provisioning_state == "Succeeded"
    (account,) = arm.cloud.store.of_type("Microsoft.Storage/storageAccounts")
    assert (account.id.group, account.body["location"]) == ("new", "francecentral")


def test_resources_that_do_not_wait_are_made_at_the_same_time(arm: Arm) -> None:
    arm.fail({"kind": "slow", "type": "Microsoft.Storage/storageAccounts", "for_s": 0.3,
              "times": "always"})  # fmt: skip
    many = [an_account(f"account{n}") for n in range(8)]
    deploy(arm, group_template(*many))
    (deployment,) = arm.cloud.store.of_type("Microsoft.Resources/deployments")
    assert float(deployment.properties["duration"][2:-1]) < 8 * 0.3


def test_a_failure_stops_what_waits_for_it_and_nothing_else(arm: Arm) -> None:
    template = group_template(
        an_account("broken"), a_network("waits", dependsOn=["broken"]), an_account("free")
    )
    arm.fail({"kind": "resource", "type": "Microsoft.Storage/storageAccounts",
              "name": "broken", "code": "ServerIsBusy"})  # fmt: skip
    with pytest.raises(HttpResponseError) as error:
        deploy(arm, template)
    assert error.value.error.code == "DeploymentFailed"  # type: ignore[union-attr]
    assert innermost(error.value) == "ServerIsBusy"
    states = {one.id.name: one.state for one in arm.cloud.store.all()}
    assert states == {"rg": "Succeeded", "d": "Failed", "broken": "Failed", "free": "Succeeded"}
    assert deploy(arm, template) == {}
    assert {one.state for one in arm.cloud.store.all()} == {"Succeeded"}


@pytest.mark.parametrize(
    ("resource", "says"),
    [
        ({"type": "Microsoft.Nothing/here"}, "not supported"),
        ({"name": "[noSuchFunction('a')]"}, "noSuchFunction"),
        ({"location": "atlantis"}, "LocationNotAvailableForResourceType"),
        ({"location": None}, "LocationRequired"),
        ({"dependsOn": ["nobody"]}, "not defined in the template"),
        ({"dependsOn": ["account"]}, "Circular dependency"),
        ({"tags": {"a": "[reference('account').x]", "b": "[parameters('none')]"}}, "'none'"),
        ({"name": "[reference('x').y]"}, "not expected at this location"),
        ({"condition": "yes"}, "must be a boolean"),
        ({"colour": "red"}, "colour"),
        ({"name": "a/b"}, "segment lengths"),
        ({"apiVersion": None}, "apiVersion"),
        ({"copy": {"name": "c", "count": 2}}, "defined multiple times"),
        ({"copy": {"name": "c", "count": 9999}}, "800"),
        ({"sku": {"name": "Huge"}}, "InvalidParameterValue"),
        ({"sku": None}, "MissingRequiredProperty"),
        ({"name": "Not_An_Account"}, "AccountNameInvalid"),
        ({"properties": {"x": "[utcNow()]"}}, "utcNow"),
        ({"properties": {"x": "[copyIndex()]"}}, "copyIndex"),
        ({"properties": {"x": "[if(true(), 1, variables('gone'))]"}}, "'gone'"),
    ],
)
def test_a_wrong_resource_is_refused_before_anything_is_made(
    arm: Arm, resource: dict[str, Any], says: str
) -> None:
    wrong = {k: v for k, v in {**an_account("account"), **resource}.items() if v is not None}
    assert says in refused(arm, group_template(an_account("sound"), wrong))


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"contentVersion": None}, "contentVersion"),
        ({"extra": 1}, "extra"),
        ({"$schema": "https://x/deploymentParameters.json#"}, "not supported"),
        ({"$schema": "https://x/subscriptionDeploymentTemplate.json#"}, "group scope"),
        ({"resources": "none"}, "array or an object"),
        ({"variables": {"a": "[variables('b')]", "b": "[variables('a')]"}}, "Circular"),
        ({"variables": {"a": "[reference('x').y]"}}, "not expected"),
        ({"variables": {"a": "[div(1, 0)]"}}, "division by zero"),
        ({"outputs": {"a": {"value": "x"}}}, "no valid type"),
        ({"outputs": {"a": {"type": "string", "value": "[zzz()]"}}}, "zzz"),
        ({"outputs": {"a": {"type": "string", "value": "[div(1, 0)]"}}}, "division by zero"),
        ({"outputs": {"a": {"type": "int", "value": "x"}}}, "JToken type is not valid"),
        ({"parameters": {"p": {"type": "date"}}}, "no valid type"),
        ({"parameters": {"p": {"type": "string", "default": "x"}}}, "default"),
    ],
)
def test_a_wrong_template_is_refused(arm: Arm, parts: dict[str, Any], says: str) -> None:
    template = {k: v for k, v in {**group_template(), **parts}.items() if v is not None}
    assert says in refused(arm, template)


@pytest.mark.parametrize(
    ("declared", "given", "says"),
    [
        ({"type": "string"}, {}, "is not provided"),
        ({"type": "string"}, {"p": 1}, "JToken type is not valid"),
        ({"type": "int"}, {"p": True}, "JToken type is not valid"),
        ({"type": "bool"}, {"p": 1}, "JToken type is not valid"),
        ({"type": "string", "allowedValues": ["a", "b"]}, {"p": "c"}, "allowed value"),
        ({"type": "string", "minLength": 3}, {"p": "ab"}, "greater than or equal to '3'"),
        ({"type": "array", "maxLength": 1}, {"p": [1, 2]}, "less than or equal to '1'"),
        ({"type": "int", "minValue": 3}, {"p": 2}, "greater than or equal to '3'"),
        ({"type": "int", "maxValue": 3}, {"p": 4}, "less than or equal to '3'"),
        ({"type": "string", "defaultValue": "x"}, {"q": 1}, "do not correspond"),
        ({"type": "string", "defaultValue": "[reference('x')]"}, {}, "not expected"),
    ],
)
def test_a_wrong_parameter_is_refused(
    arm: Arm, declared: dict[str, Any], given: dict[str, Any], says: str
) -> None:
    assert says in refused(arm, group_template(parameters={"p": declared}), **given)


def test_a_secure_value_is_in_no_refusal(arm: Arm) -> None:
    declared = {"p": {"type": "secureString", "allowedValues": ["x"]}}
    assert "hunter2" not in refused(arm, group_template(parameters=declared), p="hunter2")


def test_an_unknown_type_deep_inside_is_refused_before_the_outside_is_made(arm: Arm) -> None:
    wrong = group_template(an_account("a", type="Microsoft.Nothing/here"))
    deep = nested("deep", "rg", group_template(nested("deeper", "rg", wrong, dependsOn=[])),
                  dependsOn=[])  # fmt: skip
    assert "not supported" in refused(arm, group_template(an_account("sound"), deep))


def test_a_nested_parameter_that_only_the_cloud_knows_is_no_error(arm: Arm) -> None:
    inner = group_template(
        a_network("[parameters('name')]"), parameters={"name": {"type": "string"}}
    )
    step = nested("inner", "rg", inner, dependsOn=["account"])
    step["properties"]["parameters"] = {
        "name": {"value": "[concat('net-', reference('account').statusOfPrimary)]"}
    }
    deploy(arm, group_template(an_account("account"), step))
    (network,) = arm.cloud.store.of_type("Microsoft.Network/virtualNetworks")
    assert network.id.name == "net-available"


def test_an_id_that_leads_nowhere_fails_the_resource(arm: Arm) -> None:
    subnet = "[resourceId('Microsoft.Network/virtualNetworks/subnets', 'net', 'none')]"
    endpoint = {
        "type": "Microsoft.Network/privateEndpoints",
        "apiVersion": "2024-05-01",
        "name": "pe",
        "location": "francecentral",
        "dependsOn": ["net"],
        "properties": {"subnet": {"id": subnet}},
    }
    with pytest.raises(HttpResponseError) as error:
        deploy(arm, group_template(a_network(), endpoint))
    assert innermost(error.value) == "InvalidResourceReference"


def test_a_child_without_its_parent_fails(arm: Arm) -> None:
    child = {
        "type": "Microsoft.Storage/storageAccounts/blobServices",
        "apiVersion": "2024-01-01",
        "name": "nobody/default",
        "properties": {},
    }
    with pytest.raises(HttpResponseError) as error:
        deploy(arm, group_template(child))
    assert innermost(error.value) == "ParentResourceNotFound"
