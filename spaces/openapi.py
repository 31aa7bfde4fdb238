"""The OpenAPI 3.1 document, out of the same declarations that serve the requests. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from spaces.http import KEY_HEADER, PREFIX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spaces.http import Operation

REF = "#/components/schemas/{name}"


class FieldProblem(msgspec.Struct, frozen=True, kw_only=True):
    """One wrong field: where (JSON pointer), what kind, what to do."""

    pointer: str
    code: str
    message: str


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """RFC 9457. `type` ends with the problem's slug; more members stand beside these."""

    type: str
    title: str
    status: int
    detail: str
    instance: str = ""
    errors: list[FieldProblem] = []


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The document of these endpoints, in a stable order."""
    ordered = sorted(operations, key=lambda one: (one.path, one.method))
    types = [one.response for one in ordered]
    types += [one.body for one in ordered if one.body is not None]
    _, components = _components([*types, Problem])
    paths: dict[str, dict[str, Any]] = {}
    for one in ordered:
        paths.setdefault(f"/{PREFIX}{one.path}", {})[one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "KPAX Cloud",
            "version": "1",
            "description": "Opens, shows, backs up and restores spaces. Enums in answers are open.",
        },
        "paths": paths,
        "components": {
            "schemas": dict(sorted(components.items())),
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": KEY_HEADER},
            },
        },
    }


def _operation(one: Operation) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": one.name,
        "summary": one.summary,
        "parameters": _parameters(one),
        "responses": {
            str(one.status): {
                "description": one.summary,
                "content": {"application/json": {"schema": _schema(one.response)}},
            },
            "default": {
                "description": _problems(one),
                "content": {"application/problem+json": {"schema": _schema(Problem)}},
            },
        },
        "security": [] if one.public else [{"key": []}],
    }
    if one.body is not None:
        told["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _schema(one.body)}},
        }
    return told


def _parameters(one: Operation) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in one.path.split("/") if part.startswith("{")]
    told: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in names
    ]
    told += [
        {"name": name, "in": "query", "required": False, "schema": {"type": "string"}}
        for name in one.query
    ]
    if one.idempotent:
        told.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": not one.key_optional,
                "schema": {"type": "string", "minLength": 1, "maxLength": 200},
            }
        )
    return told


def _problems(one: Operation) -> str:
    slugs = ", ".join(one.problems)
    return (
        f"A problem document: {slugs}, or one of the general ones."
        if slugs
        else ("A problem document.")
    )


def _schema(kind: Any) -> dict[str, Any]:  # noqa: ANN401 - a type, or what msgspec takes for one
    (schema,), _ = _components([kind])
    return schema


def _components(types: Sequence[Any]) -> tuple[tuple[dict[str, Any], ...], dict[str, Any]]:
    return msgspec.json.schema_components(types, ref_template=REF, schema_hook=_anything)


def _anything(kind: type) -> dict[str, Any]:
    """The schema of a value that we pass on as it is."""
    if kind is object:
        return {"description": "Any JSON value."}
    raise TypeError(f"no schema for {kind}")
