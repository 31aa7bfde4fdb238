"""The token: whatever is changed about it, it opens nothing."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest

from geo_router import signed
from spaces.errors import InvalidError, RefusedError
from tests.geo_router.builders import NOW, a_key, ask

KEY = a_key()
REQUEST = {"country": "DE", "sector": "health"}


def a_token(**changes: object) -> str:
    """A token with some claims replaced (None leaves the claim out), signed with the good key."""
    token = signed.issue(ask(**REQUEST), key=KEY, now=NOW, jti="j-1")
    claims = jwt.decode(token, options={"verify_signature": False}) | changes
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, KEY.private, algorithm="EdDSA", headers={"kid": KEY.kid})


def verify(token: str, *, request: object = REQUEST, now: datetime = NOW) -> signed.Decision:
    return signed.verify(token, request=request, keys=KEY.public, now=now)


def reason(token: str, **arguments: Any) -> str:
    with pytest.raises(RefusedError) as caught:
        verify(token, **arguments)
    assert (caught.value.problem_slug, caught.value.problem_status) == ("decision-invalid", 422)
    return str(caught.value.members["reason"])


def test_a_good_token_says_what_was_decided() -> None:
    decision = verify(signed.issue(ask(**REQUEST), key=KEY, now=NOW, jti="j-1"))
    assert (decision.jti, decision.cluster) == ("j-1", "france")
    assert (decision.azure_region, decision.backup_region) == ("francecentral", "francesouth")
    assert decision.request["sector"] == "health"
    assert decision.request_hash == ask(**REQUEST)["request_hash"]
    assert decision.expires_at - decision.issued_at == timedelta(minutes=15)


def test_the_claims_are_those_of_the_contract() -> None:
    claims = jwt.decode(a_token(), options={"verify_signature": False})
    assert sorted(claims) == sorted(signed.CLAIMS)
    assert "sub" not in claims
    assert claims["dv"] == ask(**REQUEST)["data"]["hash"]


def test_the_request_may_be_written_another_way_but_not_mean_another_thing() -> None:
    token = a_token()
    assert verify(token, request={"sector": "health", "country": " de", "exclude": []})
    for other in ({"country": "DE"}, {"country": "FR", "sector": "health"}, {}, None):
        assert reason(token, request=other) == "other-request"


def test_a_token_lives_fifteen_minutes_and_a_minute_of_skew() -> None:
    token = a_token()
    assert verify(token, now=NOW + timedelta(minutes=15, seconds=59))
    assert reason(token, now=NOW + timedelta(minutes=16)) == "expired"
    assert verify(token, now=NOW - timedelta(seconds=60))
    assert reason(token, now=NOW - timedelta(seconds=61)) == "not-yet-valid"


def test_a_token_issued_before_midnight_is_good_after_it() -> None:
    late = datetime(2026, 11, 24, 23, 59, 30, tzinfo=UTC)
    request = {"country": "DE", "as_of": "2026-11-24"}
    token = signed.issue(ask(**request), key=KEY, now=late, jti="j-2")
    decision = verify(token, request=request, now=late + timedelta(minutes=5))
    assert "as_of" not in decision.request


@pytest.mark.parametrize(
    ("claim", "value", "expected"),
    [
        ("iss", "kpax-geo-routes", "foreign"),
        ("aud", "kpax-provisionings", "foreign"),
        ("req", "sha256:" + "0" * 64, "other-request"),
        ("dec", "queued", "malformed"),
        ("cluster", "uk", "malformed"),
        ("region", "uksouth", "malformed"),
        ("backup", "ukwest", "malformed"),
        ("exp", int(NOW.timestamp()) + 901, "not-yet-valid"),
        ("exp", "never", "malformed"),
        ("iat", 1e300, "malformed"),
        ("iat", True, "malformed"),
    ],
)
def test_a_claim_that_is_not_right_is_refused_even_when_signed(
    claim: str, value: object, expected: str
) -> None:
    assert reason(a_token(**{claim: value})) == expected


@pytest.mark.parametrize("claim", signed.CLAIMS)
def test_no_claim_may_be_missing(claim: str) -> None:
    assert reason(a_token(**{claim: None})) in ("malformed", "foreign")


@pytest.mark.parametrize("claim", signed.CLAIMS)
def test_one_bit_of_any_claim_breaks_the_signature(claim: str) -> None:
    head, body, signature = a_token().split(".")
    text = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    at = (
        text.index(f'"{claim}":'.encode()) + len(claim) + 4
    )  # the second character of the value
    changed = text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :]
    forged = base64.urlsafe_b64encode(changed).rstrip(b"=").decode()
    assert reason(f"{head}.{forged}.{signature}") in ("forged", "malformed")


def test_a_changed_signature_is_forged() -> None:
    head, body, signature = a_token().split(".")
    raw = bytearray(base64.urlsafe_b64decode(signature + "=="))
    raw[0] ^= 1
    forged = base64.urlsafe_b64encode(bytes(raw)).rstrip(b"=").decode()
    assert reason(f"{head}.{body}.{forged}") == "forged"


def _joined(head: dict, body: str, signature: bytes) -> str:
    def encode(raw: bytes) -> str:
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    return f"{encode(json.dumps(head).encode())}.{body}.{encode(signature)}"


def test_the_header_never_picks_the_algorithm() -> None:
    _, body, _ = a_token().split(".")
    none = {"alg": "none", "typ": "JWT", "kid": KEY.kid}
    assert reason(_joined(none, body, b"")) == "forged"
    hs256 = {"alg": "HS256", "typ": "JWT", "kid": KEY.kid}
    unsigned = _joined(hs256, body, b"").rpartition(".")[0]
    public = KEY.private.public_key().public_bytes_raw()
    mac = hmac.digest(public, unsigned.encode(), hashlib.sha256)
    assert reason(_joined(hs256, body, mac)) == "forged"


def test_another_key_is_unknown_and_a_borrowed_key_id_is_forged() -> None:
    other, answer = a_key(2), ask(**REQUEST)
    assert reason(signed.issue(answer, key=other, now=NOW, jti="j")) == "unknown-key"
    thief = signed.SigningKey(kid=KEY.kid, private=other.private)
    assert reason(signed.issue(answer, key=thief, now=NOW, jti="j")) == "forged"


@pytest.mark.parametrize(
    "token", ["", "x", "a.b.c", "e30.e30.", "ä.ö.ü", "." * 50, "e30" * 9000]
)
def test_junk_is_malformed(token: str) -> None:
    assert reason(token) in ("malformed", "unknown-key")


def test_old_and_new_key_are_both_good_while_keys_rotate() -> None:
    other = a_key(2)
    keys = {**KEY.public, **other.public}
    for key in (KEY, other):
        token = signed.issue(ask(**REQUEST), key=key, now=NOW, jti="j")
        assert signed.verify(token, request=REQUEST, keys=keys, now=NOW).cluster == "france"


def test_only_an_allowed_answer_is_signed() -> None:
    for answer in (
        ask("CU"),
        ask("DE", placement={"france": "full"}),
        ask("KR", sector="public"),
    ):
        with pytest.raises(ValueError, match="only an allowed answer"):
            signed.issue(answer, key=KEY, now=NOW, jti="j")


def test_a_key_that_is_none_is_named() -> None:
    for setting in ("", "abc", "A" * 44, base64.b64encode(b"x" * 31).decode()):
        with pytest.raises(InvalidError, match="decision key"):
            signed.SigningKey.from_setting(setting)


def test_a_stored_request_is_decided_again_by_the_rules_of_the_day() -> None:
    stored = verify(a_token()).request
    assert signed.decide_again(stored, now=NOW)["cluster"] == "france"
    turkish = {"country": "TR"}
    assert signed.decide_again(turkish, now=NOW)["decision"] == "refused"
