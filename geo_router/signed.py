"""The signed decision: a token that proves to the orders endpoint what the router allowed.

JWS, compact, EdDSA over Ed25519: who verifies holds no secret. The token binds the request (its
hash), not an order, because the route is asked for first; whoever accepts an order spends the `jti`
once. Only the one algorithm is accepted, whatever the header says.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, cast

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from geo_router import reading, router, tables
from spaces.errors import InvalidError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping

ALGORITHM = "EdDSA"
ISSUER = "kpax-geo-router"
AUDIENCE = "kpax-provisioning"
LIFETIME = timedelta(minutes=15)
SKEW = timedelta(seconds=60)
CLAIMS = ("iss", "aud", "jti", "iat", "exp", "req", "dec", "cluster", "region", "backup", "dv")

Reason = Literal[
    "malformed", "unknown-key", "forged", "expired", "not-yet-valid", "foreign", "other-request"
]


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key with the id that tokens name it by."""

    kid: str
    private: Ed25519PrivateKey

    @classmethod
    def from_setting(cls, setting: str) -> SigningKey:
        """The key of `KPAX_DECISION_KEY`: 32 raw bytes in base64."""
        try:
            private = Ed25519PrivateKey.from_private_bytes(
                base64.b64decode(setting, validate=True)
            )
        except ValueError as error:
            raise InvalidError(
                "the decision key is not 32 bytes in base64",
                where="setting KPAX_DECISION_KEY",
                remedy="Make one: head -c 32 /dev/urandom | base64.",
            ) from error
        return cls(kid=kid_of(private.public_key()), private=private)

    @property
    def public(self) -> Mapping[str, Ed25519PublicKey]:
        """What `verify` needs to accept this key's tokens; join several to rotate."""
        return {self.kid: self.private.public_key()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A verified decision: where the space may be opened, and what was asked for."""

    jti: str
    cluster: str
    azure_region: str
    backup_region: str
    data_hash: str
    request: dict[str, object]
    """The canonical request; this is what an order stores, and what is decided again later."""
    request_hash: str
    issued_at: datetime
    expires_at: datetime


def kid_of(public: Ed25519PublicKey) -> str:
    """The id of a key: the first 16 characters of the SHA-256 of its raw bytes, base64url."""
    digest = hashlib.sha256(public.public_bytes_raw()).digest()
    return base64.urlsafe_b64encode(digest).decode()[:16]


def sign(
    answer: dict[str, object], *, key: SigningKey, now: datetime, jti: str
) -> dict[str, object]:
    """The answer with its token and times filled in; the answer must be `allowed`."""
    token = issue(answer, key=key, now=now, jti=jti)
    issued = datetime.fromtimestamp(int(now.timestamp()), UTC)
    return answer | {
        "issued_at": _rfc3339(issued),
        "expires_at": _rfc3339(issued + LIFETIME),
        "token": token,
    }


def issue(answer: dict[str, object], *, key: SigningKey, now: datetime, jti: str) -> str:
    """The token of an allowed answer; `jti` is its one-time name."""
    if answer["decision"] != "allowed":
        raise ValueError(f"only an allowed answer is signed, not {answer['decision']}")
    issued = int(now.timestamp())
    backup, data = (
        cast("dict[str, str]", answer["backup"]),
        cast("dict[str, str]", answer["data"]),
    )
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "jti": jti,
        "iat": issued,
        "exp": issued + int(LIFETIME.total_seconds()),
        "req": answer["request_hash"],
        "dec": answer["decision"],
        "cluster": answer["cluster"],
        "region": answer["azure_region"],
        "backup": backup["azure_region"],
        "dv": data["hash"],
    }
    return jwt.encode(claims, key.private, algorithm=ALGORITHM, headers={"kid": key.kid})


def verify(
    token: str,
    *,
    request: object,
    keys: Mapping[str, Ed25519PublicKey],
    now: datetime,
) -> Decision:
    """What the token decided on this request; raises `RefusedError` (`decision-invalid`, 422).

    The member `reason` of the error says why. Spending the `jti` is the caller's: insert if absent.
    """
    claims = signed_claims(token, keys)
    issued, expires = check(claims, now=now)
    form = check_request(claims, request, issued)
    return Decision(
        jti=str(claims["jti"]),
        cluster=str(claims["cluster"]),
        azure_region=str(claims["region"]),
        backup_region=str(claims["backup"]),
        data_hash=str(claims["dv"]),
        request=form,
        request_hash=str(claims["req"]),
        issued_at=issued,
        expires_at=expires,
    )


def decide_again(request: dict[str, object], *, now: datetime) -> dict[str, object]:
    """The answer to a stored request by the rules of today; compare `decision` and `cluster`."""
    today = now.astimezone(UTC).date().isoformat()
    return router.settle(tables.load(), request, today=today).answer


def signed_claims(token: str, keys: Mapping[str, Ed25519PublicKey]) -> dict[str, Any]:
    """The claims, once the signature has been checked with the key that the token names.

    What they say is not checked yet. Raises `RefusedError`: malformed, unknown-key, forged.
    """
    try:
        kid = jwt.get_unverified_header(token).get("kid")
    except jwt.PyJWTError as error:
        raise _invalid("malformed", "it is no compact JWS") from error
    key = keys.get(kid) if isinstance(kid, str) else None
    if key is None:
        raise _invalid("unknown-key", "its key is not ours")
    try:
        # What the claims say is checked by `check`, against the clock that it is given.
        return jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
            options={
                "verify_aud": False,
                "verify_iss": False,
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
            },
        )
    except (jwt.InvalidSignatureError, jwt.InvalidAlgorithmError, jwt.InvalidKeyError) as error:
        raise _invalid("forged", "its signature is not good") from error
    except jwt.PyJWTError as error:
        raise _invalid("malformed", "its claims are unreadable") from error


def check(claims: dict[str, Any], *, now: datetime) -> tuple[datetime, datetime]:
    """Issue and end of a token whose claims are whole, ours, of this moment and name a place of ours.

    Raises `RefusedError` otherwise, with the reason.
    """
    missing = [name for name in CLAIMS if name not in claims]
    if missing:
        raise _invalid("malformed", f"claims are missing: {', '.join(missing)}")
    if (claims["iss"], claims["aud"]) != (ISSUER, AUDIENCE):
        raise _invalid("foreign", "it was issued by or for somebody else")
    issued, expires = _time(claims, "iat"), _time(claims, "exp")
    if now >= expires + SKEW:
        raise _invalid("expired", f"it was good until {_rfc3339(expires)}")
    if now < issued - SKEW or expires - issued > LIFETIME:
        raise _invalid("not-yet-valid", f"it says it was issued at {_rfc3339(issued)}")
    _check_place(claims)
    return issued, expires


def check_request(
    claims: dict[str, Any], request: object, issued: datetime
) -> dict[str, object]:
    """The canonical request, when it is the one that the token was issued on.

    It is read as of the day of issue: the clock may have passed midnight.
    """
    form = router.settle(tables.load(), request, today=issued.date().isoformat()).form
    if form is None:
        raise _invalid("other-request", "the request beside it cannot be read")
    if claims["req"] != reading.request_hash(form):
        raise _invalid("other-request", "it was issued on another request")
    return form


def _time(claims: dict[str, Any], name: str) -> datetime:
    value = claims[name]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 34:
        raise _invalid("malformed", f"its {name} is no time")
    return datetime.fromtimestamp(value, UTC)


def _check_place(claims: dict[str, Any]) -> None:
    """The claims must name a cluster of ours with its own regions."""
    rules = tables.load()
    place = (claims["cluster"], claims["region"], claims["backup"])
    ours = [(c.id, c.azure_region, c.backup.azure_region) for c in rules.clusters]
    if claims["dec"] != "allowed" or place not in ours:
        raise _invalid("malformed", "it allows no place of ours")


def _rfc3339(at: datetime) -> str:
    return at.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def _invalid(reason: Reason, why: str) -> RefusedError:
    return RefusedError(
        f"the decision token is not good: {why}",
        remedy="Ask POST /api/v1/route again and order with the fresh token.",
        slug="decision-invalid",
        status=422,
        members={"reason": reason},
    )
