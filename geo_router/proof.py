"""What a decision token proves, for a person: signature, claims, and the rules it was decided by.

Unlike `signed.verify` it does not stop at the first thing that is wrong: a token of last week has
a good signature and still tells where the space was allowed.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from geo_router import signed, tables
from spaces.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

UNREADABLE = ("malformed",)
"""Reasons for which a token is no token at all; any other is a token that is refused."""

_UNSIGNED = {"malformed": "unreadable", "unknown-key": "unknown-key", "forged": "bad"}


def proof(
    token: str,
    *,
    keys: Mapping[str, Ed25519PublicKey],
    now: datetime,
    versions: Mapping[str, str],
    request: object | None = None,
) -> dict[str, object]:
    """Everything that the token says and whether it is good now.

    `versions` names known editions of the rules by their hash; a `request` is compared where given.
    Claims are told only when the signature is good: until then they are anybody's words.
    """
    try:
        claims = signed.signed_claims(token, keys)
    except RefusedError as error:
        reason = str(error.members["reason"])
        return _told(_UNSIGNED[reason], error, claims=None, data=None)
    data = _data(claims, versions)
    try:
        issued, _ = signed.check(claims, now=now)
        if request is not None:
            signed.check_request(claims, request, issued)
    except RefusedError as error:
        return _told("good", error, claims=claims, data=data)
    return _told("good", None, claims=claims, data=data)


def text(told: Mapping[str, Any]) -> str:
    """The proof for a terminal."""
    verdict = "good" if told["valid"] else f"refused, {told['reason']}. {told['message']}"
    lines = [f"token: {verdict}", f"signature: {told['signature']}"]
    claims, data = told["claims"], told["data"]
    if claims is not None and data is not None:
        lines += [f"{name}: {_shown(name, value)}" for name, value in claims.items()]
        version = data["version"] or "an edition that is not known here"
        current = "the rules of now" if data["current"] else "not the rules of now"
        lines.append(f"decided by rules {version} ({current})")
    return "\n".join(lines)


def _told(
    signature: str,
    error: RefusedError | None,
    *,
    claims: dict[str, Any] | None,
    data: dict[str, object] | None,
) -> dict[str, object]:
    return {
        "valid": error is None,
        "signature": signature,
        "reason": None if error is None else error.members["reason"],
        "message": None if error is None else error.what,
        "claims": claims,
        "data": data,
    }


def _data(claims: dict[str, Any], versions: Mapping[str, str]) -> dict[str, object]:
    """The edition of the rules that the token names."""
    rules, named = tables.load(), claims.get("dv")
    known = {**versions, rules.hash: rules.version}
    return {
        "hash": named,
        "version": known.get(named) if isinstance(named, str) else None,
        "current": named == rules.hash,
    }


def _shown(name: str, value: object) -> str:
    if name in ("iat", "exp") and isinstance(value, int) and 0 < value < 1 << 34:
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return str(value).encode("unicode_escape").decode()
