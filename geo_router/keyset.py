"""The public keys of decisions as a JSON Web Key Set (RFC 7517, RFC 8037), and back.

Whoever verifies holds no secret. A set of several keys lets an old and a new one be good at once.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from geo_router.signed import kid_of
from spaces.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """One Ed25519 key; `x` is its 32 bytes in base64url, `kid` what tokens name it by."""

    kty: Literal["OKP"] = "OKP"
    crv: Literal["Ed25519"] = "Ed25519"
    x: str
    kid: str
    use: Literal["sig"] = "sig"
    alg: Literal["EdDSA"] = "EdDSA"


class KeySet(msgspec.Struct, frozen=True, kw_only=True):
    """The keys that are good now."""

    keys: list[Key]


def published(public: Mapping[str, Ed25519PublicKey]) -> KeySet:
    """The set as everybody may read it."""
    return KeySet(keys=[Key(x=_text(key), kid=kid) for kid, key in public.items()])


def read(document: object) -> dict[str, Ed25519PublicKey]:
    """The keys of a set, by the ids that they really have; `InvalidError` where it is none.

    An id is computed from the key: a set cannot give one key the name of another.
    """
    try:
        told = msgspec.convert(document, type=KeySet)
        found = [Ed25519PublicKey.from_public_bytes(_raw(key.x)) for key in told.keys]
    except (msgspec.ValidationError, ValueError) as error:
        raise InvalidError(
            f"this is no set of Ed25519 keys: {error}",
            remedy="Take it from GET /api/v1/route/keys.",
        ) from error
    return {kid_of(key): key for key in found}


def _text(key: Ed25519PublicKey) -> str:
    return base64.urlsafe_b64encode(key.public_bytes_raw()).decode().rstrip("=")


def _raw(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars="-_", validate=True)
