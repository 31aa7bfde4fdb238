"""The HTTP layer: what it does for every endpoint, and every way to ask wrongly."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import azure.functions as func
import msgspec
import pytest

from spaces import callers, http, idempotency
from spaces.errors import InvalidError, RefusedError, ThrottledError
from spaces.http import OPERATIONS, Operation, Reply, Request
from spaces.jsonlimits import decode_strictly
from spaces.rate import Bucket
from spaces.settings import settings
from tests.builders import some_environment
from tests.fakes import fake_ports

if TYPE_CHECKING:
    from collections.abc import Iterator


class Thing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    count: int = 1


THINGS = Operation(
    method="POST",
    path="/things",
    name="things_create",
    summary="Make a thing",
    action="thing.create",
    body=Thing,
    response=Thing,
    status=201,
    public=False,
    idempotent=True,
    problems=(),
    query=("colour",),
)
KEY = some_environment()["KPAX_API_KEY"]


@pytest.fixture(autouse=True)
def _app(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in some_environment().items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    ports = fake_ports()
    monkeypatch.setattr(http, "ports", lambda: ports)
    yield
    settings.cache_clear()


def ask(
    body: bytes | str = b'{"name":"x"}',
    *,
    operation: Operation = THINGS,
    handler: Any = None,
    params: dict[str, str] | None = None,
    **headers: str,
) -> func.HttpResponse:
    made: list[object] = []

    async def make(request: Request) -> Reply:
        made.append(request.body)
        return Reply(body={"made": len(made), "body": request.body}, status=201)

    given = {
        "x-functions-key": KEY,
        "content-type": "application/json",
        "idempotency-key": "k-1",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    request = func.HttpRequest(
        method=operation.method,
        url="/api/v1/things",
        headers={name: value for name, value in given.items() if value},
        params=params or {},
        route_params={},
        body=body if isinstance(body, bytes) else body.encode(),
    )
    return asyncio.run(http._serve(operation, handler or make, request))


def problem_of(response: func.HttpResponse) -> dict[str, Any]:
    assert response.mimetype == "application/problem+json"
    document = json.loads(response.get_body())
    assert document["status"] == response.status_code
    assert document["instance"] == response.headers["X-Request-Id"]
    return document


def test_a_good_request_is_answered() -> None:
    response = ask()
    assert response.status_code == 201
    assert json.loads(response.get_body())["body"] == {"name": "x", "count": 1}


@pytest.mark.parametrize("key", ["", "wrong", "é", "\udcff", KEY + "x"])
def test_without_a_good_key_nothing_is_done(key: str) -> None:
    assert problem_of(ask(x_functions_key=key))["type"].endswith("/unauthenticated")


def test_the_key_may_stand_in_the_query() -> None:
    assert ask(x_functions_key="", params={"code": KEY}).status_code == 201


@pytest.mark.parametrize(
    ("body", "slug"),
    [
        (b"", "malformed-json"),
        (b"{", "malformed-json"),
        (b"\xff\xfe", "malformed-json"),
        (b'{"name":"x","name":"y"}', "malformed-json"),
        (b'{"name":NaN}', "malformed-json"),
        (b"[" * 5000, "malformed-json"),
        (b'{"name":"x","count":' + b"9" * 5000 + b"}", "malformed-json"),
        (b'{"name":"\\ud800"}', "malformed-json"),
        (b'{"name":1}', "validation-failed"),
        (b'{"name":"x","count":"1"}', "validation-failed"),
        (b'{"name":"x","other":1}', "validation-failed"),
        (b"{}", "validation-failed"),
        (b'"x"', "validation-failed"),
        (b"null", "validation-failed"),
    ],
)
def test_a_bad_body_is_a_400_that_says_what_is_wrong(body: bytes, slug: str) -> None:
    response = ask(body)
    assert response.status_code == 400
    assert problem_of(response)["type"].endswith("/" + slug)


def test_a_wrong_field_is_pointed_at() -> None:
    document = problem_of(ask(b'{"name":"x","count":"1"}'))
    assert document["errors"][0]["pointer"] == "/count"


def test_a_large_body_a_wrong_type_and_an_unknown_parameter_are_refused() -> None:
    assert ask(b"x" * (http.MAX_BODY + 1)).status_code == 413
    assert ask(content_type="text/plain").status_code == 415
    document = problem_of(ask(params={"color": "red"}))
    assert document["errors"][0]["pointer"] == "/color"


@pytest.mark.parametrize("key", ["", "x" * 201, "\udcff", "a\x00b"])
def test_an_idempotency_key_is_needed(key: str) -> None:
    assert problem_of(ask(idempotency_key=key))["type"].endswith("/idempotency-key-required")


def test_the_same_request_again_has_one_effect_and_one_answer() -> None:
    first, second = ask(), ask()
    assert second.get_body() == first.get_body()
    assert second.headers["Idempotent-Replayed"] == "true"
    assert problem_of(ask(b'{"name":"y"}'))["type"].endswith("/idempotency-key-reused")


def test_a_refusal_is_replayed_and_a_crash_is_not() -> None:
    async def refuse(request: Request) -> Reply:
        raise RefusedError("no", slug="name-taken")

    async def crash(request: Request) -> Reply:
        raise RuntimeError("secret detail")

    assert ask(handler=refuse).status_code == 409
    replayed = ask(handler=refuse)
    assert replayed.headers["Idempotent-Replayed"] == "true"
    crashed = ask(handler=crash, idempotency_key="k-2")
    assert crashed.status_code == 500
    assert "secret" not in crashed.get_body().decode()


def test_what_passes_is_not_kept_as_the_answer_of_its_key() -> None:
    async def throttled(request: Request) -> Reply:
        raise ThrottledError("too many requests", retry_after_s=2)

    first = ask(handler=throttled)
    assert (first.status_code, first.headers["Retry-After"]) == (429, "2")
    assert ask().status_code == 201


def test_a_get_answers_304_to_its_own_etag() -> None:
    look = Operation(
        **{
            **{name: getattr(THINGS, name) for name in Operation.__dataclass_fields__},
            "method": "GET",
            "body": None,
            "idempotent": False,
        }
    )

    async def show(request: Request) -> Reply:
        return Reply(body={"a": 1})

    first = ask(b"", operation=look, handler=show)
    again = ask(b"", operation=look, handler=show, if_none_match=first.headers["ETag"])
    assert (first.status_code, again.status_code) == (200, 304)
    assert again.get_body() == b""


async def test_a_request_left_by_a_dead_process_is_taken_over() -> None:
    ports = fake_ports()
    answers: list[str] = []

    async def answer() -> idempotency.Stored:
        answers.append("x")
        return idempotency.Stored(status=201, text="{}")

    async def die() -> idempotency.Stored:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await idempotency.once(ports, scope="s", key="k", raw=b"{}", answer=die)
    with pytest.raises(RefusedError) as refused:
        await idempotency.once(ports, scope="s", key="k", raw=b"{}", answer=answer)
    assert refused.value.problem_slug == "request-in-progress"
    ports.clock.advance(31)  # pyright: ignore[reportAttributeAccessIssue]
    stored = await idempotency.once(ports, scope="s", key="k", raw=b"{}", answer=answer)
    assert (stored.status, answers) == (201, ["x"])


async def test_three_at_once_have_one_effect() -> None:
    ports = fake_ports()
    effects: list[str] = []

    async def answer() -> idempotency.Stored:
        await asyncio.sleep(0)
        effects.append("x")
        return idempotency.Stored(status=201, text="{}")

    results = await asyncio.gather(
        *(
            idempotency.once(ports, scope="s", key="k", raw=b"{}", answer=answer)
            for _ in range(3)
        ),
        return_exceptions=True,
    )
    assert effects == ["x"]
    assert sum(isinstance(one, idempotency.Stored) for one in results) == 1


def test_a_bucket_gives_what_it_holds() -> None:
    bucket = Bucket(2)
    bucket.take()
    bucket.take()
    with pytest.raises(Exception, match="too many"):
        bucket.take()


def test_json_depth_is_bounded_without_recursion() -> None:
    with pytest.raises(InvalidError):
        decode_strictly(b"[" * 50_000 + b"]" * 50_000)
    assert decode_strictly(b'{"a":"[[[[[[[[[[[[[[[[[["}')
    assert decode_strictly(b"[[[[1]], []]]", max_depth=4) == [[[[1]], []]]
    with pytest.raises(InvalidError, match="nested too deeply"):
        decode_strictly(b"[[[[[1]]]]]", max_depth=4)


def test_every_endpoint_declares_its_action() -> None:
    assert all(operation.action for operation in OPERATIONS)


def test_what_the_caller_does_not_take_is_not_made() -> None:
    response = ask(accept="text/html")
    assert problem_of(response)["type"].endswith("/not-acceptable")
    assert response.status_code == 406
    assert ask(accept="text/html, */*;q=0.1").status_code == 201


def test_no_problem_document_is_kept_by_anybody() -> None:
    assert ask(b"{").headers["Cache-Control"] == "no-store"


def _like_things(**over: Any) -> Operation:
    given = {name: getattr(THINGS, name) for name in Operation.__dataclass_fields__}
    return Operation(**{**given, **over})


def test_an_optional_idempotency_key_counts_where_it_is_given() -> None:
    optional = _like_things(key_optional=True)
    first, again = ask(operation=optional), ask(operation=optional)
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    for _ in range(2):
        response = ask(operation=optional, idempotency_key="")
        assert (response.status_code, "Idempotent-Replayed" in response.headers) == (201, False)


def test_a_handler_that_reads_itself_gets_what_was_sent() -> None:
    seen: list[Request] = []

    async def look(request: Request) -> Reply:
        seen.append(request)
        return Reply(body={})

    own = _like_things(reads_itself=True)
    large = b"\xff" * (http.MAX_BODY + 1)
    response = ask(large, operation=own, handler=look, params={"x": "1"}, content_type="")
    assert response.status_code == 200
    assert (seen[0].raw, seen[0].query, seen[0].body) == (large, {"x": "1"}, None)


def test_a_public_endpoint_is_limited_by_network_and_by_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KPAX_ROUTE_RATE_PER_MIN", "2")
    monkeypatch.setenv("KPAX_KEY_RATE_PER_MIN", "3")
    settings.cache_clear()
    callers.forget()
    public = _like_things(public=True, idempotent=False)

    def statuses(count: int, **headers: str) -> list[int]:
        return [ask(operation=public, **headers).status_code for _ in range(count)]

    nobody = {"x_functions_key": "", "x_forwarded_for": "192.0.2.7:81"}
    assert statuses(3, **nobody) == [201, 201, 429]
    forged = {**nobody, "x_forwarded_for": "203.0.113.5, 192.0.2.8"}
    response = ask(operation=public, **forged)
    assert (response.status_code, response.headers["Retry-After"]) == (429, "30")
    assert problem_of(response)["type"].endswith("/rate-limited")
    assert statuses(1, **{**nobody, "x_forwarded_for": "198.51.100.7"}) == [201]
    assert statuses(4, x_forwarded_for="192.0.2.7") == [201, 201, 201, 429]
