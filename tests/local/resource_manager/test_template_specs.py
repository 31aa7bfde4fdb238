"""Template specs, and deployments and stacks that name one of their versions."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.mgmt.resource.deployments import DeploymentsMgmtClient

from tests.local.resource_manager.clients import (
    Arm,
    a_network,
    group_template,
    innermost,
    nested,
    stack_body,
)

SPEC = "/resourceGroups/specs/providers/Microsoft.Resources/templateSpecs/net"
INNER = group_template(
    a_network("[parameters('name')]"),
    parameters={"name": {"type": "string"}},
    outputs={"made": {"type": "string", "value": "[parameters('name')]"}},
)


def call(
    arm: Arm, method: str, path: str, body: Any = None, version: str = "2022-02-01"
) -> tuple[int, Any]:
    request = urllib.request.Request(  # noqa: S310 — a loopback address
        f"{arm.url}/subscriptions/{arm.subscription}{path}?api-version={version}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {arm.home.secret('token')}"},
    )
    try:
        with urllib.request.urlopen(request) as answer:  # noqa: S310 — as above
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def make(arm: Arm, main: dict[str, Any], *, version: str = "1.0", **more: Any) -> str:
    """A version of the spec, and its id."""
    arm.groups.create_or_update("specs", {"location": "francecentral"})
    arm.groups.create_or_update("rg", {"location": "francecentral"})
    place = {"location": "francecentral"}
    call(arm, "PUT", SPEC, {**place, "properties": {"displayName": "Nets"}})
    status, made = call(
        arm,
        "PUT",
        f"{SPEC}/versions/{version}",
        {**place, "properties": {"mainTemplate": main, **more}},
    )
    assert status == 201, made
    return made["id"]


def link_of(spec: str, **parameters: Any) -> dict[str, Any]:
    return {
        "mode": "Incremental",
        "templateLink": {"id": spec},
        "parameters": {name: {"value": value} for name, value in parameters.items()},
    }


def deploy(arm: Arm, properties: dict[str, Any]) -> Any:
    return arm.deployments.begin_create_or_update(
        "rg", "d", {"properties": properties}
    ).result()


def networks(arm: Arm) -> set[str]:
    return {one.name for one in arm.resources.list() if one.type.endswith("virtualNetworks")}


def test_a_spec_and_its_versions_are_made_read_listed_and_deleted(arm: Arm) -> None:
    spec = make(arm, INNER)
    assert spec.endswith("/templateSpecs/net/versions/1.0")
    assert call(arm, "GET", f"{SPEC}/versions/1.0")[1]["properties"]["mainTemplate"] == INNER
    make(arm, INNER, version="1.1")
    listed = call(arm, "GET", f"{SPEC}/versions")[1]["value"]
    assert [one["name"] for one in listed] == ["1.0", "1.1"]
    specs = call(arm, "GET", "/providers/Microsoft.Resources/templateSpecs")[1]["value"]
    assert [one["name"] for one in specs] == ["net"]
    assert call(arm, "DELETE", SPEC)[0] == 200
    assert call(arm, "GET", f"{SPEC}/versions/1.1")[0] == 404


def test_a_version_is_deployed_by_its_id_and_the_deployment_names_it(arm: Arm) -> None:
    spec = make(arm, INNER)
    made = deploy(arm, link_of(spec, name="by-link"))
    assert made.properties.outputs["made"]["value"] == "by-link"
    assert made.properties.template_link.id == spec
    assert networks(arm) == {"by-link"}
    checked = arm.client(DeploymentsMgmtClient).deployments
    assert checked.begin_validate(
        "rg", "d", {"properties": link_of(spec, name="x")}
    ).result().error is None  # fmt: skip
    foreseen = checked.begin_what_if("rg", "d", {"properties": link_of(spec, name="by-link")})
    assert {one.change_type for one in foreseen.result().changes} == {"NoChange"}


def test_a_stack_is_made_of_a_version(arm: Arm) -> None:
    spec = make(arm, INNER)
    body = stack_body({}, {"name": "of-stack"})
    del body["properties"]["template"]
    body["properties"]["templateLink"] = {"id": spec}
    made = arm.stacks.begin_create_or_update_at_resource_group("rg", "s", body).result()
    assert made.properties.template_link.id == spec
    assert networks(arm) == {"of-stack"}


def test_a_nested_deployment_names_a_version_by_an_expression(arm: Arm) -> None:
    make(arm, INNER)
    inner = nested("n", "rg", {}, properties={"parameters": {"name": {"value": "deep"}}})
    del inner["properties"]["template"]
    del inner["dependsOn"]
    inner["properties"]["templateLink"] = {
        "id": "[resourceId('specs', 'Microsoft.Resources/templateSpecs/versions', 'net', '1.0')]"
    }
    outer = group_template(
        inner,
        outputs={"made": {"type": "string", "value": "[reference('n').outputs.made.value]"}},
    )
    made = deploy(arm, {"mode": "Incremental", "template": outer})
    assert made.properties.outputs["made"]["value"] == "deep"
    foreseen = arm.client(DeploymentsMgmtClient).deployments.begin_what_if(
        "rg", "d", {"properties": {"mode": "Incremental", "template": outer}}
    )
    changes = {one.resource_id.rpartition("/")[2]: one for one in foreseen.result().changes}
    assert changes["deep"].change_type == "NoChange"
    old = {**inner, "apiVersion": "2019-10-01"}
    with pytest.raises(HttpResponseError) as refused:
        deploy(arm, {"mode": "Incremental", "template": group_template(old)})
    assert refused.value.error.code == "InvalidDeployment"


def test_linked_templates_of_a_version_are_found_by_their_path(arm: Arm) -> None:
    inner = nested("n", "rg", {}, properties={"parameters": {"name": {"value": "by-path"}}})
    del inner["properties"]["template"]
    del inner["dependsOn"]
    inner["properties"]["templateLink"] = {"relativePath": "parts/net.json"}
    main = group_template(inner)
    artifacts = [{"path": "parts/net.json", "template": INNER}]
    spec = make(arm, main, linkedTemplates=artifacts)
    deploy(arm, link_of(spec))
    assert networks(arm) == {"by-path"}
    missing = make(arm, main, version="2.0")
    with pytest.raises(HttpResponseError) as refused:
        deploy(arm, link_of(missing))
    assert refused.value.error.code == "InvalidTemplateSpec"


@pytest.mark.parametrize(
    ("properties", "code"),
    [
        ({"templateLink": {"uri": "https://example.org/t.json"}}, "InvalidContentLink"),
        ({"templateLink": {"relativePath": "t.json"}}, "InvalidContentLink"),
        ({"template": group_template(), "parametersLink": {"uri": "https://example.org/p"}},
         "InvalidContentLink"),
        ({"template": group_template(), "templateLink": {"id": "/subscriptions/x"}},
         "InvalidDeployment"),
    ],
)  # fmt: skip
def test_what_would_have_to_be_downloaded_is_refused(
    arm: Arm, properties: dict[str, Any], code: str
) -> None:
    arm.groups.create_or_update("rg", {"location": "francecentral"})
    with pytest.raises(HttpResponseError) as refused:
        deploy(arm, {"mode": "Incremental", **properties})
    assert refused.value.error.code == code


def test_a_version_that_is_not_there_and_one_of_nothing_are_refused(arm: Arm) -> None:
    spec = make(arm, INNER)
    with pytest.raises(HttpResponseError) as refused:
        deploy(arm, link_of(spec.replace("1.0", "9.9"), name="x"))
    assert refused.value.error.code == "InvalidTemplateSpec"
    place = {"location": "francecentral", "properties": {}}
    assert call(arm, "PUT", f"{SPEC}/versions/3", place)[0] == 400
    with pytest.raises(HttpResponseError) as wrong:
        deploy(arm, link_of(spec))
    assert "name" in str(wrong.value)
    assert innermost(wrong.value) == "InvalidTemplate"
