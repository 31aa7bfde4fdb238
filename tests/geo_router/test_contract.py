"""Statuses, bodies and headers of `POST /api/v1/route`, and what no body may do."""

from __future__ import annotations

import json
import random
from datetime import timedelta

import msgspec
import pytest

from geo_router import contract, signed, wire
from tests.geo_router.builders import NOW, a_key, ask

KEY = a_key()


def post(
    body: object, content_type: str = "application/json", key: signed.SigningKey | None = KEY
) -> tuple[int, dict, dict]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    status, headers, answer = contract.answer(raw, content_type, now=NOW, key=key)
    return status, headers, json.loads(answer)


@pytest.mark.parametrize(
    ("request_", "status", "refusal"),
    [
        ({"country": "DE"}, 200, None),
        ({"country": "KR", "sector": "public"}, 202, "localisation"),
        ({"country": "FR", "ip_country": "IR"}, 202, "location-conflict"),
        ({"country": "CU"}, 451, "sanctions"),
        ({"country": "TR", "sector": "public"}, 451, "localisation"),
        ({"country": "TR"}, 422, "condition-required"),
        ({"country": "DE", "pin": "us"}, 422, "requirement-conflict"),
        ({"country": "US", "certifications": ["dod-il5"]}, 422, "certification-unavailable"),
        ({"country": "CH", "strict_residency": True}, 422, "no-home-cluster"),
        (
            {"country": "IN", "sector": "payments", "data_subject_countries": ["FR"]},
            422,
            "residency-conflict",
        ),
        ({"country": "DEU"}, 400, "unknown-country"),
        ({"country": "DE", "x": 1}, 400, "invalid-input"),
        ([], 400, "invalid-input"),
    ],
)
def test_the_status_follows_the_outcome_and_the_body_is_the_same_object(
    request_: object, status: int, refusal: str | None
) -> None:
    got, headers, body = post(request_)
    assert got == status
    assert headers["Cache-Control"] == "no-store"
    kind = "application/problem+json" if status >= 400 else "application/json"
    assert headers["Content-Type"] == kind
    answer = msgspec.convert(contract.object_of(body), wire.RouteAnswer)
    assert answer.refusal == refusal
    assert (answer.token is not None) == (status == 200)
    if status >= 400:
        assert body["status"] == status
        assert body["type"] == f"https://errors.kpax.invalid/{refusal}"
        assert body["title"]
        assert body["detail"]


def test_http_and_library_give_one_object_but_for_the_signature() -> None:
    for fields in ({}, {"sector": "public"}, {"data_subject_countries": ["BR"]}):
        _, _, body = post({"country": "DE", **fields})
        bare = body | {"token": None, "issued_at": None, "expires_at": None}
        assert bare == ask("DE", **fields)


def test_an_allowed_answer_carries_a_token_for_this_request() -> None:
    _, _, body = post({"country": "DE"})
    assert body["expires_at"] == (NOW + timedelta(minutes=15)).strftime("%Y-%m-%dT%H:%M:%SZ")
    decision = signed.verify(body["token"], request={"country": "DE"}, keys=KEY.public, now=NOW)
    assert decision.cluster == body["cluster"]
    _, _, again = post({"country": "DE"})
    assert again["token"] != body["token"]


@pytest.mark.parametrize(
    "fields",
    [
        {"as_of": "2026-11-23"},
        {"measured_rtt": {"uk": [9, 9, 9]}},
        {"assertions": ["vendor_dpf"]},
    ],
)
def test_a_preview_is_allowed_and_unsigned(fields: dict) -> None:
    status, _, body = post({"country": "DE", **fields})
    assert (status, body["decision"], body["token"]) == (200, "allowed", None)


def test_without_a_key_nothing_is_signed() -> None:
    assert post({"country": "DE"}, key=None)[2]["token"] is None


def test_what_is_too_large_or_not_json_is_not_looked_at() -> None:
    large = b'{"country":"DE"' + b" " * contract.LARGEST_BODY + b"}"
    assert post(large)[0] == 413
    assert post(b" " * (contract.LARGEST_BODY - 20) + b'{"country":"DE"}')[0] == 200
    for kind in ("", "text/plain", "application/x-www-form-urlencoded", "application/jsonp"):
        assert post({"country": "DE"}, kind)[0] == 415
    assert post({"country": "DE"}, "Application/JSON; charset=utf-8")[0] == 200


MALFORMED = [
    b"", b"{", b"DE", b'{"country":"DE"}x', b"\xff\xfe", b'{"country":"D\xff"}',
    b'{"country":"DE","country":"FR"}', b'{"country":"DE","coordinates":[NaN,1]}',
    b'{"country":"DE","coordinates":[Infinity,1]}', b'{"country":"\\ud800"}',
    b'{"\\udfff":1}', b'{"country":"DE","pin":[[[[1]]]]}', b"[" * 16_000,
    b'{"a":' * 2_000 + b"1" + b"}" * 2_000, b'{"country":' + b"9" * 5_000 + b"}",
    b'\xef\xbb\xbf{"country":"DE"}',
]  # fmt: skip


@pytest.mark.parametrize("body", MALFORMED, ids=range(len(MALFORMED)))
def test_malformed_json_is_named_and_answers_with_the_object_too(body: bytes) -> None:
    status, headers, answer = post(body)
    assert (status, headers["Content-Type"]) == (400, "application/problem+json")
    assert answer["refusal"] == "invalid-input"
    assert answer["errors"]
    msgspec.convert(contract.object_of(answer), wire.RouteAnswer)


def test_numbers_out_of_all_bounds_are_wrong_fields() -> None:
    for number in (b"1e999", b"-1e999", b"1e-999999", b"9" * 4_000):
        body = b'{"country":"DE","coordinates":[' + number + b",1]}"
        status, _, answer = post(body)
        # An underflow is the number zero; everything else is beyond the bounds.
        assert status == (200 if number == b"1e-999999" else 400), number
        assert status == 200 or answer["errors"][0]["pointer"] == "/coordinates/0"


def test_no_body_whatever_gives_anything_but_an_answer_or_a_problem() -> None:
    dice = random.Random(11)  # noqa: S311 - a seeded test, no secret
    good = json.dumps(
        {"country": "DE", "sector": "health", "coordinates": [1.5, 2], "exclude": ["uk"]}
    ).encode()
    values = [None, True, 0, -1, 1e308, "", "x", "DE", [], {}, [[]], {"a": 1}, ["uk", 1]]
    for _ in range(3_000):
        raw = bytearray(good)
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(raw))
            raw[at : at + dice.randint(0, 2)] = dice.randbytes(dice.randint(0, 3))
        fields = dice.sample(list(wire.RouteRequest.__struct_fields__), dice.randint(1, 6))
        shaped = json.dumps({name: dice.choice(values) for name in fields}).encode()
        for body in (bytes(raw), shaped):
            status, _, answer = post(body)
            assert status in (200, 202, 400, 422, 451), body
            assert status < 400 or answer["status"] == status
            assert status != 400 or answer["errors"], body
