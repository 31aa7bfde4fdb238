"""Groups, single resources, tags, lists and the subscription, by the unmodified client."""

from __future__ import annotations

import base64
import http.client
import json
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.mgmt.resource.resources import ResourceManagementClient

from local.resource_manager.cloud import Identities
from tests.local.resource_manager.clients import (
    Arm,
    a_group,
    a_network,
    an_account,
    group_template,
    infra,
    nested,
    space_parameters,
    stack_body,
    subscription_template,
)


@pytest.fixture
def client(arm: Arm) -> Any:
    return arm.client(ResourceManagementClient)


def account_id(arm: Arm, name: str = "someaccount") -> str:
    group = f"/subscriptions/{arm.subscription}/resourceGroups/rg"
    return f"{group}/providers/Microsoft.Storage/storageAccounts/{name}"


def an_account_body(**parts: Any) -> dict[str, Any]:
    given = an_account(**parts)
    return {k: v for k, v in given.items() if k not in ("type", "apiVersion", "name")}


def make(client: Any, arm: Arm, name: str = "someaccount", **parts: Any) -> Any:
    return client.resources.begin_create_or_update_by_id(
        account_id(arm, name), an_account_body(**parts), api_version="2024-01-01"
    ).result()


def test_a_group_lives_and_dies(client: Any) -> None:
    groups = client.resource_groups
    assert groups.check_existence("rg") is False
    made = groups.create_or_update("rg", {"location": "France Central", "tags": {"a": "b"}})
    assert (made.location, made.tags) == ("francecentral", {"a": "b"})
    assert groups.check_existence("RG") is True
    assert groups.get("rg").properties.provisioning_state == "Succeeded"
    assert [one.name for one in groups.list()] == ["rg"]
    groups.update("rg", {"tags": {"c": "d"}})
    assert groups.get("rg").tags == {"c": "d"}
    groups.begin_delete("rg").result()
    assert groups.check_existence("rg") is False
    with pytest.raises(ResourceNotFoundError) as gone:
        groups.get("rg")
    assert gone.value.error.code == "ResourceGroupNotFound"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "LocationRequired"),
        ({"location": "atlantis"}, "LocationNotAvailableForResourceGroup"),
    ],
)
def test_a_group_without_a_known_place_is_refused(
    client: Any, body: dict[str, Any], code: str
) -> None:
    with pytest.raises(HttpResponseError) as refused:
        client.resource_groups.create_or_update("rg", body)
    assert refused.value.error.code == code


def test_a_group_does_not_move(client: Any) -> None:
    client.resource_groups.create_or_update("rg", {"location": "uksouth"})
    with pytest.raises(HttpResponseError) as refused:
        client.resource_groups.create_or_update("rg", {"location": "francecentral"})
    assert refused.value.error.code == "InvalidResourceGroupLocation"


def test_a_resource_by_id_lives_and_dies(client: Any, arm: Arm) -> None:
    client.resource_groups.create_or_update("rg", {"location": "uksouth"})
    made = make(client, arm, tags={"a": "b"})
    assert made.id == account_id(arm)
    assert made.properties["provisioningState"] == "Succeeded"
    assert made.properties["primaryEndpoints"]["blob"] == "http://127.0.0.1:1/someaccount/"
    assert client.resources.check_existence_by_id(account_id(arm), api_version="2024-01-01")
    shouted = client.resources.get_by_id(account_id(arm).upper(), api_version="2024-01-01")
    assert shouted.id == account_id(arm)
    client.resources.begin_delete_by_id(account_id(arm), api_version="2024-01-01").result()
    with pytest.raises(ResourceNotFoundError) as gone:
        client.resources.get_by_id(account_id(arm), api_version="2024-01-01")
    assert gone.value.error.code == "ResourceNotFound"


def test_a_deleted_group_takes_its_resources_along(client: Any, arm: Arm) -> None:
    client.resource_groups.create_or_update("rg", {"location": "uksouth"})
    make(client, arm)
    client.resource_groups.begin_delete("rg").result()
    assert arm.cloud.store.all() == []
    assert arm.cloud.accounts.get("someaccount") is None


def test_resources_are_listed_by_tag_in_pages(client: Any, arm: Arm) -> None:
    client.resource_groups.create_or_update("rg", {"location": "uksouth"})
    for n in range(7):
        make(client, arm, f"account{n}", tags={"Space": "a" if n < 5 else "b"})
    listed = client.resources.list(
        filter="tagName eq 'space' and tagValue eq 'a'", top=2, expand="createdTime"
    )
    assert [one.name for one in listed] == [f"account{n}" for n in range(5)]
    assert len(list(client.resources.list())) == 7
    assert len(list(client.resources.list_by_resource_group("rg"))) == 7
    by_type = client.resources.list(
        filter="resourceType eq 'Microsoft.Network/virtualNetworks'"
    )
    assert list(by_type) == []
    with pytest.raises(HttpResponseError) as refused:
        list(client.resources.list(filter="colour eq 'red'"))
    assert refused.value.error.code == "InvalidFilterInQueryString"


def test_tags_are_read_replaced_merged_and_deleted(client: Any, arm: Arm) -> None:
    client.resource_groups.create_or_update("rg", {"location": "uksouth", "tags": {"a": "1"}})
    scope = f"/subscriptions/{arm.subscription}/resourceGroups/rg"
    tags = client.tags
    assert tags.get_at_scope(scope).properties.tags == {"a": "1"}
    tags.begin_update_at_scope(
        scope, {"operation": "Merge", "properties": {"tags": {"b": "2"}}}
    ).result()
    assert client.resource_groups.get("rg").tags == {"a": "1", "b": "2"}
    tags.begin_update_at_scope(
        scope, {"operation": "Delete", "properties": {"tags": {"a": "1"}}}
    ).result()
    assert tags.get_at_scope(scope).properties.tags == {"b": "2"}
    tags.begin_create_or_update_at_scope(scope, {"properties": {"tags": {"c": "3"}}}).result()
    assert client.resource_groups.get("rg").tags == {"c": "3"}


def test_tags_survive_the_next_update_of_their_resource_only_if_given(
    client: Any, arm: Arm
) -> None:
    client.resource_groups.create_or_update("rg", {"location": "uksouth"})
    make(client, arm, tags={"a": "1"})
    make(client, arm)
    found = client.resources.get_by_id(account_id(arm), api_version="2024-01-01")
    assert found.tags is None


def test_a_name_that_is_unique_in_the_world_is_taken_once(client: Any, arm: Arm) -> None:
    for group in ("rg", "other"):
        client.resource_groups.create_or_update(group, {"location": "uksouth"})
    make(client, arm)
    with pytest.raises(HttpResponseError) as refused:
        client.resources.begin_create_or_update_by_id(
            account_id(arm).replace("/rg/", "/other/"),
            an_account_body(),
            api_version="2024-01-01",
        )
    assert refused.value.error.code == "StorageAccountAlreadyTaken"


def test_keys_are_listed_only_where_shared_keys_are_allowed(client: Any, arm: Arm) -> None:
    client.resource_groups.create_or_update("rg", {"location": "uksouth"})
    make(client, arm)
    path = f"{account_id(arm)}/listKeys?api-version=2024-01-01"
    assert _call(arm, "POST", path)[1]["keys"][0]["value"] == "a2V5"
    make(client, arm, properties={"allowSharedKeyAccess": False})
    status, body = _call(arm, "POST", path)
    assert (status, body["error"]["code"]) == (403, "KeyBasedAuthenticationNotPermitted")


def test_instances_are_listed_with_their_limits(arm: Arm) -> None:
    cluster = stack_body(infra("cluster.json"), {"cluster": "france"})
    arm.stacks.begin_create_or_update_at_subscription("shared", cluster).result()
    body = stack_body(infra("space.json"), space_parameters())
    arm.stacks.begin_create_or_update_at_subscription("s-abcdefghij-1", body).result()
    group = f"/subscriptions/{arm.subscription}/resourcegroups/rg-kx-s-abcdefghij-1"
    scale_set = (
        f"{group}/providers/Microsoft.Compute/virtualMachineScaleSets/vmss-s-abcdefghij-1"
    )
    version = "?api-version=2024-07-01"
    status, listed = _call(arm, "GET", f"{scale_set}/virtualMachines{version}")
    assert status == 200
    assert [(one["name"], one["zones"]) for one in listed["value"]] == [
        ("vmss-s-abcdefghij-1_0", ["1"]), ("vmss-s-abcdefghij-1_1", ["2"]),
    ]  # fmt: skip
    limits = listed["value"][0]["properties"]["limits"]
    assert limits == {"memoryMib": 192, "cpus": 2.0, "mechanism": "none"}
    one = f"{scale_set}/virtualMachines/vmss-s-abcdefghij-1_1{version}"
    assert _call(arm, "GET", one)[1]["properties"]["address"] == "127.0.0.1:30001"
    status, everything = _call(arm, "GET", "/_local/processes")
    assert [(i["kind"], i["space_id"], i["running"]) for i in everything["items"]] == [
        ("database", "s-abcdefghij", True),
        ("instance", "s-abcdefghij", True),
        ("instance", "s-abcdefghij", True),
    ]


def test_stop_and_repair_keep_what_is_declared(arm: Arm) -> None:
    cluster = stack_body(infra("cluster.json"), {"cluster": "france"})
    arm.stacks.begin_create_or_update_at_subscription("shared", cluster).result()
    body = stack_body(infra("space.json"), space_parameters())
    arm.stacks.begin_create_or_update_at_subscription("s-abcdefghij-1", body).result()
    stopped = _call(arm, "POST", "/_local/stop")[1]["items"]
    assert [one["running"] for one in stopped] == [False]
    repaired = _call(arm, "POST", "/_local/repair")[1]
    assert repaired["failures"] == []
    assert [one["running"] for one in repaired["items"]] == [True, True, True]
    (route,) = arm.cloud.routes.table  # type: ignore[attr-defined]
    assert len(route.origins) == 2


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        (
            "GET",
            "/subscriptions/other/resourceGroups?api-version=2025-04-01",
            404,
            "SubscriptionNotFound",
        ),
        ("GET", "{s}/resourceGroups", 400, "MissingApiVersionParameter"),
        ("GET", "/", 404, "InvalidRequestUri"),
        ("GET", "/nothing?api-version=2025-04-01", 404, "InvalidRequestUri"),
        ("GET", "{s}//x?api-version=2025-04-01", 404, "InvalidRequestUri"),
        (
            "GET",
            "{s}/resourceGroups/none/resources?api-version=2025-04-01",
            404,
            "ResourceGroupNotFound",
        ),
        (
            "PUT",
            "{rg}/providers/Microsoft.No/type/x?api-version=2025-04-01",
            404,
            "InvalidResourceNamespace",
        ),
        (
            "GET",
            "{rg}/providers/Microsoft.No/type?api-version=2025-04-01",
            404,
            "InvalidResourceNamespace",
        ),
        ("POST", "{rg}?api-version=2025-04-01", 405, "MethodNotAllowed"),
        ("PUT", "{s}/resourceGroups/x?api-version=2025-04-01", 400, "LocationRequired"),
        (
            "GET",
            "{s}/providers/Microsoft.No?api-version=2025-04-01",
            404,
            "InvalidResourceNamespace",
        ),
        (
            "POST",
            "{s}/providers/Microsoft.Resources/deployments/x/nonsense?api-version=2025-04-01",
            404,
            "OperationNotSupported",
        ),
        ("GET", "/_local/other", 404, "InvalidRequestUri"),
    ],
)
def test_what_is_not_here_is_said_in_arms_words(
    arm: Arm, method: str, path: str, status: int, code: str
) -> None:
    arm.groups.create_or_update("rg", {"location": "uksouth"})
    base = f"/subscriptions/{arm.subscription}"
    found, body = _call(arm, method, path.format(s=base, rg=f"{base}/resourceGroups/rg"), b"{}")
    assert (found, body["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    "body", [b"{", b'"text"', b"[" * 5000, b"\xff", b'{"a":' * 200 + b"1" + b"}" * 200]
)
def test_a_strange_body_is_refused(arm: Arm, body: bytes) -> None:
    path = f"/subscriptions/{arm.subscription}/resourceGroups/rg?api-version=2025-04-01"
    status, said = _call(arm, "PUT", path, body)
    assert (status, said["error"]["code"]) == (400, "InvalidRequestContent")


def test_a_body_over_four_mebibytes_is_refused(arm: Arm) -> None:
    path = f"/subscriptions/{arm.subscription}/resourceGroups/rg?api-version=2025-04-01"
    status, said = _call(arm, "PUT", path, b'"' + b"a" * (5 * 2**20) + b'"')
    assert (status, said["error"]["code"]) == (413, "RequestContentTooLarge")


def test_health_needs_no_token_and_nothing_else_does_without(arm: Arm) -> None:
    assert _call(arm, "GET", "/healthz", token="")[0] == 200
    for path in (
        "/_local/processes",
        f"/subscriptions/{arm.subscription}?api-version=2025-04-01",
    ):
        status, said = _call(arm, "GET", path, token="")
        assert (status, said["error"]["code"]) == (401, "AuthenticationFailed")


def test_a_strangers_token_is_a_person_of_its_own(arm: Arm) -> None:
    """Tools of other people bring credentials that nobody here can check."""
    path = (
        f"/subscriptions/{arm.subscription}/resourceGroups/of-a-stranger?api-version=2025-04-01"
    )
    group = b'{"location": "francecentral"}'
    assert _call(arm, "PUT", path, group, token="anything")[0] == 201
    status, said = _call(arm, "GET", "/_local/processes", token="anything")
    assert (status, said["error"]["code"]) == (403, "AuthorizationFailed")
    oid = "4f1c2f5e-0000-4000-8000-000000000001"
    claims = base64.urlsafe_b64encode(json.dumps({"oid": oid}).encode()).decode().rstrip("=")
    assert Identities.stranger(f"e30.{claims}.x") == oid
    assert Identities.stranger("a") != Identities.stranger("b")


def test_providers_and_places_are_told(client: Any) -> None:
    namespaces = {one.namespace for one in client.providers.list()}
    assert {"Microsoft.Compute", "Microsoft.Storage", "Microsoft.Resources"} <= namespaces
    registered = client.providers.register("Microsoft.Compute")
    assert registered.registration_state == "Registered"


def test_a_stacks_deployments_can_be_looked_at(arm: Arm) -> None:
    template = subscription_template(
        a_group(), nested("fill", "rg", group_template(a_network(), an_account()))
    )
    arm.stacks.begin_create_or_update_at_subscription("stack", stack_body(template)).result()
    (top,) = arm.deployments.list_at_subscription_scope()
    assert top.name.startswith("stack-")
    inner = arm.deployments.get("rg", "fill")
    assert inner.properties.provisioning_state == "Succeeded"


def _call(
    arm: Arm, method: str, path: str, body: bytes | None = None, token: str | None = None
) -> tuple[int, Any]:
    host = arm.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=10)
    bearer = arm.home.secret("token") if token is None else token
    connection.request(method, path, body, {"Authorization": f"Bearer {bearer}"})
    answer = connection.getresponse()
    raw = answer.read()
    connection.close()
    return answer.status, json.loads(raw) if raw else None
