"""The endpoints through the real HTTP layer, as the Functions host calls them."""

from __future__ import annotations

import asyncio
import json
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import azure.functions as func
import msgspec
import pytest

from geo_router import (
    contract,
    keyset,
    lookup,
    router,
    signed,
    tables,
    texts,
    triggers,
    wire,
)
from geo_router.reading import FIELDS
from spaces import callers, http
from spaces.clusters import CLUSTERS
from spaces.openapi import document
from spaces.settings import settings
from tests.builders import some_environment
from tests.fakes import fake_ports
from tests.geo_router.builders import NOW, TODAY, ask
from tests.geo_router.test_properties import requests

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RULES = tables.load()


@pytest.fixture(autouse=True)
def _app(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in some_environment().items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    callers.forget()
    ports = fake_ports()
    monkeypatch.setattr(ports.clock, "now", lambda: NOW)
    monkeypatch.setattr(http, "ports", lambda: ports)
    yield
    settings.cache_clear()


HANDLERS = {
    "route": triggers.route,
    "route_preview": triggers.preview,
    "route_clusters": triggers.clusters,
    "route_rules": triggers.rules,
    "route_rule": triggers.rule,
    "route_coverage": triggers.coverage,
    "route_keys": triggers.keys,
}


def call(
    name: str,
    *,
    body: object = None,
    query: dict[str, str] | None = None,
    params: dict[str, str] | None = None,
    **headers: str,
) -> tuple[func.HttpResponse, Any]:
    operation = next(known for known in http.OPERATIONS if known.name == name)
    request = func.HttpRequest(
        method=operation.method,
        url=f"/api/v1{operation.path}",
        headers={key.replace("_", "-"): value for key, value in headers.items()},
        params=query or {},
        route_params=params or {},
        body=b"" if body is None else json.dumps(body).encode(),
    )
    response = asyncio.run(http._serve(operation, HANDLERS[name], request))
    raw = response.get_body()
    return response, json.loads(raw) if raw else None


def post(request: object) -> tuple[func.HttpResponse, Any]:
    return call("route", body=request, content_type="application/json")


def test_nobody_needs_a_key_and_an_allowed_answer_is_signed() -> None:
    response, body = post({"country": "DE"})
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    assert body["token"].count(".") == 2


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"country": "CU"}, 451),
        ({"country": "TR"}, 422),
        ({"country": "DEU"}, 400),
        ({"country": "DE", "x": 1}, 400),
        ({"country": "KR", "sector": "public"}, 202),
    ],
)
def test_the_http_layer_keeps_status_and_members(request_: dict, status: int) -> None:
    response, body = post(request_)
    assert response.status_code == status
    alone = ask(**request_)
    assert contract.object_of(body) == alone
    if status >= 400:
        assert response.mimetype == "application/problem+json"
        assert body["instance"] == response.headers["X-Request-Id"]


def test_a_body_of_17_kib_is_too_large() -> None:
    assert post({"country": "DE", "x": "y" * 17_000})[0].status_code == 413


def test_the_preview_is_the_same_answer_unsigned_and_cached() -> None:
    query = {"country": "DE", "sector": "health", "data_subject_countries": "IT, BE"}
    response, body = call("route_preview", query=query)
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "public, max-age=60"
    assert body == ask("DE", sector="health", data_subject_countries=["IT", "BE"])
    again, nothing = call("route_preview", query=query, if_none_match=response.headers["ETag"])
    assert (again.status_code, nothing) == (304, None)
    other, _ = call("route_preview", query={"country": "FR"})
    assert other.headers["ETag"] != response.headers["ETag"]


def test_a_preview_refuses_as_a_request_does() -> None:
    assert call("route_preview", query={"country": "CU"})[0].status_code == 451
    assert (
        call("route_preview", query={"country": "DE", "strict_residency": "yes"})[0].status_code
        == 400
    )
    assert call("route_preview", query={"country": "DE", "colour": "red"})[0].status_code == 400
    assert call("route_preview", query={})[0].status_code == 400


def test_every_request_can_be_written_as_a_query() -> None:
    for request in requests(300, seed=12):
        alone = ask(**request)
        form = router.settle(RULES, request, today=TODAY).form
        query = texts.query_of(form)
        assert set(query) <= set(FIELDS)
        back = {name: texts.field_of(name, text, ",") for name, text in query.items()}
        assert ask(**back) == alone, request


def test_a_queued_or_reviewed_answer_says_where_to_ask_again() -> None:
    response, body = post({"country": "KR", "sector": "public", "exclude": ["uk", "in"]})
    where = urlsplit(response.headers["Location"])
    assert where.path == "/api/v1/route"
    again, told = call("route_preview", query=dict(parse_qsl(where.query)))
    assert (again.status_code, told) == (202, body)


def test_the_rules_can_be_looked_at() -> None:
    _, listed = call("route_rules")
    assert len(listed["items"]) == 60
    codes = [code for item in listed["items"] for code in item["countries"]]
    assert sorted(codes) == sorted(RULES.countries)
    _, one = call("route_rule", params={"rule_id": "brazil"})
    assert one["sectors"]["general"]["allow"] == ["france"]
    assert one["sectors"]["general"]["conditional"]["uk"] == [["authority_clauses"]]
    assert one["sectors"]["public"]["own"] is True
    assert [text["until"] for text in one["history"]] == ["2026-01-27"]
    assert len(one["citations"]) == len(one["sources"])
    assert call("route_rule", params={"rule_id": "narnia"})[0].status_code == 404


def test_the_clusters_are_those_that_the_product_opens() -> None:
    _, found = call("route_clusters")
    shown = {
        item["id"]: (item["country"], item["azure_region"], item["backup"]["azure_region"])
        for item in found["items"]
    }
    assert shown == {
        name: (c.country, c.azure_region, c.backup_region) for name, c in CLUSTERS.items()
    }
    assert {item["zones"] for item in found["items"]} == {3}


def test_coverage_is_the_whole_grid() -> None:
    _, found = call("route_coverage")
    assert len(found["items"]) == 250 + len(RULES.subdivisions)
    by_place = {item["place"]: item for item in found["items"]}
    assert by_place["DE"]["general"] == "france"
    assert by_place["TR"]["public"] == "refused (localisation)"
    assert found == lookup.coverage(NOW.date().isoformat())


def test_the_published_keys_verify_what_is_signed() -> None:
    response, published = call("route_keys")
    assert (response.status_code, response.headers["Cache-Control"]) == (
        200,
        "public, max-age=60",
    )
    assert set(published["keys"][0]) == {"kty", "crv", "x", "kid", "use", "alg"}
    _, body = post({"country": "DE"})
    found = signed.verify(
        body["token"], request={"country": "DE"}, keys=keyset.read(published), now=NOW
    )
    assert found.cluster == "france"


def test_an_idempotency_key_brings_the_first_answer_again() -> None:
    def asked(request: object, **headers: str) -> tuple[func.HttpResponse, Any]:
        return call("route", body=request, content_type="application/json", **headers)

    _, first = asked({"country": "DE"}, idempotency_key="k")
    response, again = asked({"country": "DE"}, idempotency_key="k")
    assert again == first
    assert response.headers["Idempotent-Replayed"] == "true"
    assert response.headers["Cache-Control"] == "no-store"
    assert asked({"country": "DE"})[1]["token"] != first["token"]
    other, problem = asked({"country": "FR"}, idempotency_key="k")
    assert (other.status_code, problem["type"].rpartition("/")[2]) == (
        422,
        "idempotency-key-reused",
    )
    assert asked({"country": "CU"}, idempotency_key="n")[0].status_code == 451
    assert asked({"country": "CU"}, idempotency_key="n")[0].status_code == 451
    assert asked({"country": "DE"}, idempotency_key="x" * 201)[0].status_code == 400


def test_a_query_beside_the_body_and_a_bad_preview_are_told_with_the_answers_members() -> None:
    beside, told = call(
        "route", body={"country": "DE"}, query={"pin": "uk"}, content_type="application/json"
    )
    wrong, preview = call("route_preview", query={"country": "DE", "colour": "red"})
    for response, body in ((beside, told), (wrong, preview)):
        assert response.status_code == 400
        msgspec.convert(contract.object_of(body), wire.RouteAnswer)
    assert preview["errors"][0]["pointer"] == "/colour"


def test_the_network_is_looked_up_where_the_operator_gave_a_database(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Reader:
        def get(self, address: str) -> object:
            return {"192.0.2.1": {"country": {"iso_code": "IR"}}}.get(address)

    library = SimpleNamespace(open_database=lambda name: Reader())
    monkeypatch.setitem(sys.modules, "maxminddb", library)
    monkeypatch.setenv("KPAX_IP_DATABASE", str(tmp_path / "countries.mmdb"))
    settings.cache_clear()

    def decided(forwarded: str, **headers: str) -> tuple[str, str]:
        request = {"country": "DE", "ip_country": "DE"}
        _, body = call(
            "route",
            body=request,
            content_type="application/json",
            x_forwarded_for=forwarded,
            **headers,
        )
        return body["decision"], body["ip_evidence"]["source"]

    service = {"x_functions_key": some_environment()["KPAX_API_KEY"]}
    assert decided("192.0.2.1:80") == ("needs_review", "address")
    assert decided("192.0.2.1, 203.0.113.9") == ("allowed", "request")
    assert decided("192.0.2.1, 203.0.113.9", **service) == ("allowed", "request")
    assert decided("") == ("allowed", "request")
    _, told = call(
        "route",
        body={"country": "DE"},
        content_type="application/json",
        x_forwarded_for="192.0.2.1, 203.0.113.9",
        **service,
    )
    assert told["decision"] == "needs_review"
    assert "192.0.2.1" not in json.dumps(told)


def test_the_api_document_tells_the_shape_of_the_body() -> None:
    told = document(http.OPERATIONS)["paths"]["/api/v1/route"]["post"]
    schema = told["requestBody"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/RouteRequest"}
    (key,) = told["parameters"]
    assert (key["name"], key["required"]) == ("Idempotency-Key", False)
