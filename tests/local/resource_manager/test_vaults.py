"""Vaults that are deleted softly, and secrets of vaults as parameters."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError

from tests.local.resource_manager.clients import (
    Arm,
    a_network,
    group_template,
    innermost,
    nested,
    stack_body,
)

DELETED = "/providers/Microsoft.KeyVault/locations/francecentral/deletedVaults/some-vault"


def a_vault(**properties: Any) -> dict[str, Any]:
    return {
        "type": "Microsoft.KeyVault/vaults",
        "apiVersion": "2023-07-01",
        "name": "some-vault",
        "location": "francecentral",
        "properties": {
            "tenantId": "[subscription().tenantId]",
            "sku": {"family": "A", "name": "standard"},
            **properties,
        },
    }


def deploy(arm: Arm, *resources: dict[str, Any], given: Any = None, **parts: Any) -> Any:
    arm.groups.create_or_update("rg", {"location": "francecentral"})
    template = group_template(*resources, **parts)
    body = {"properties": {"mode": "Incremental", "template": template, "parameters": given}}
    return arm.deployments.begin_create_or_update("rg", "d", body).result()


def call(arm: Arm, method: str, path: str) -> tuple[int, Any]:
    request = urllib.request.Request(  # noqa: S310 — a loopback address
        f"{arm.url}/subscriptions/{arm.subscription}{path}?api-version=2023-07-01",
        method=method,
        headers={"Authorization": f"Bearer {arm.home.secret('token')}"},
    )
    try:
        with urllib.request.urlopen(request) as answer:  # noqa: S310 — as above
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def delete(arm: Arm) -> None:
    arm.resources.begin_delete_by_id(
        f"/subscriptions/{arm.subscription}/resourceGroups/rg/providers/"
        "Microsoft.KeyVault/vaults/some-vault",
        api_version="2023-07-01",
    ).result()


def test_a_deleted_vault_can_be_recovered_with_what_it_held(arm: Arm) -> None:
    deploy(arm, a_vault())
    delete(arm)
    cloud: Any = arm.cloud
    assert cloud.vaults.get("some-vault") is None
    status, told = call(arm, "GET", DELETED)
    assert status == 200
    assert told["properties"]["vaultId"].endswith("/vaults/some-vault")
    assert told["properties"]["scheduledPurgeDate"] > told["properties"]["deletionDate"]
    listed = call(arm, "GET", "/providers/Microsoft.KeyVault/deletedVaults")[1]["value"]
    assert [one["name"] for one in listed] == ["some-vault"]
    kept = cloud.vaults.withdrawn["some-vault"]
    with pytest.raises(HttpResponseError) as taken:
        deploy(arm, a_vault())
    assert innermost(taken.value) == "ConflictError"
    deploy(arm, a_vault(createMode="recover"))
    assert cloud.vaults.get("some-vault") is kept
    assert call(arm, "GET", DELETED)[0] == 404


def test_a_purged_vault_frees_its_name_and_is_gone(arm: Arm) -> None:
    deploy(arm, a_vault())
    delete(arm)
    cloud: Any = arm.cloud
    elsewhere = DELETED.replace("francecentral", "uksouth")
    assert call(arm, "POST", f"{elsewhere}/purge")[0] == 404
    assert call(arm, "POST", f"{DELETED}/purge")[0] == 200
    assert cloud.vaults.withdrawn == {}
    with pytest.raises(HttpResponseError) as gone:
        deploy(arm, a_vault(createMode="recover"))
    assert innermost(gone.value) == "VaultNotFound"
    deploy(arm, a_vault())


def test_a_protected_vault_is_not_purged(arm: Arm) -> None:
    deploy(arm, a_vault(enablePurgeProtection=True))
    delete(arm)
    status, said = call(arm, "POST", f"{DELETED}/purge")
    assert (status, said["error"]["code"]) == (405, "MethodNotAllowed")
    assert call(arm, "GET", DELETED)[0] == 200


SECRET = {
    "type": "Microsoft.KeyVault/vaults/secrets",
    "apiVersion": "2023-07-01",
    "name": "some-vault/word",
    "dependsOn": ["some-vault"],
    "properties": {"value": "open sesame"},
}
WORD = {"word": {"type": "securestring"}}
TAGGED = a_network(tags={"length": "[string(length(parameters('word')))]"})


def reference(arm: Arm, named: str = "word", vault: str = "some-vault") -> dict[str, Any]:
    scope = f"/subscriptions/{arm.subscription}/resourceGroups/rg"
    where = f"{scope}/providers/Microsoft.KeyVault/vaults/{vault}"
    return {"word": {"reference": {"keyVault": {"id": where}, "secretName": named}}}


def length(arm: Arm) -> str:
    (record,) = arm.cloud.store.of_type("Microsoft.Network/virtualNetworks")
    return record.body["tags"]["length"]


def test_a_secret_of_a_vault_can_be_a_parameter(arm: Arm) -> None:
    deploy(arm, a_vault(enabledForTemplateDeployment=True), SECRET)
    made = deploy(arm, TAGGED, parameters=WORD, given=reference(arm))
    assert length(arm) == "11"
    assert "open sesame" not in str(made.as_dict())
    stack = stack_body(group_template(TAGGED, parameters=WORD))
    stack["properties"]["parameters"] = reference(arm)
    arm.stacks.begin_create_or_update_at_resource_group("rg", "s", stack).result()
    inner = nested(
        "n", "rg", group_template(TAGGED, parameters=WORD),
        properties={"parameters": reference(arm)}, dependsOn=[],
    )  # fmt: skip
    deploy(arm, inner)
    assert "open sesame" not in str([one.body for one in arm.cloud.store.all()])


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"named": "other"}, "KeyVaultParameterReferenceSecretRetrieveFailed"),
        ({"vault": "other"}, "KeyVaultParameterReferenceNotFound"),
    ],
)
def test_a_reference_that_leads_nowhere_is_refused(
    arm: Arm, change: dict[str, str], wanted: str
) -> None:
    deploy(arm, a_vault(enabledForTemplateDeployment=True), SECRET)
    with pytest.raises(HttpResponseError) as refused:
        deploy(arm, TAGGED, parameters=WORD, given=reference(arm, **change))
    assert refused.value.error.code == wanted  # type: ignore[union-attr]


def test_a_vault_must_be_open_to_templates_and_the_parameter_secure(arm: Arm) -> None:
    deploy(arm, a_vault(), SECRET)
    with pytest.raises(HttpResponseError, match="not enabled for template deployment"):
        deploy(arm, TAGGED, parameters=WORD, given=reference(arm))
    with pytest.raises(HttpResponseError, match="securestring"):
        deploy(arm, TAGGED, parameters={"word": {"type": "string"}}, given=reference(arm))


def test_a_template_knows_who_deploys_it(arm: Arm) -> None:
    outputs = {"who": {"type": "string", "value": "[deployer().objectId]"}}
    made = deploy(arm, outputs=outputs)
    principal = arm.cloud.identities.principal("control-plane")
    assert made.properties.outputs["who"]["value"] == principal
    stack = arm.stacks.begin_create_or_update_at_resource_group(
        "rg", "s", stack_body(group_template(outputs=outputs))
    ).result()
    assert stack.properties.outputs["who"]["value"] == principal


def test_all_resources_of_a_loop_can_be_asked_at_once(arm: Arm) -> None:
    template = group_template(languageVersion="2.0", outputs={
        "prefixes": {"type": "array", "value": "[map(references('nets', 'Full'), "
                     "lambda('n', lambdaVariables('n').name))]"},
    })  # fmt: skip
    template["resources"] = {
        "nets": a_network("[concat('net', copyIndex())]", copy={"name": "nets", "count": 3}),
        "later": a_network("later", tags={"n": "[references('nets')[2].resourceGuid]"}),
    }
    arm.groups.create_or_update("rg", {"location": "francecentral"})
    arm.fail({"kind": "slow", "type": "Microsoft.Network/virtualNetworks",
              "name": "net2", "for_s": 0.2})  # fmt: skip
    body = {"properties": {"mode": "Incremental", "template": template}}
    made = arm.deployments.begin_create_or_update("rg", "d", body).result()
    assert made.properties.outputs["prefixes"]["value"] == ["net0", "net1", "net2"]
    found = arm.deployments.begin_what_if("rg", "d", body).result().properties.changes
    assert {one.change_type for one in found} == {"NoChange"}
