"""Shared access signatures: is this token good, for which entities, and to do what."""

from __future__ import annotations

import hmac
from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote_plus

from local.service_bus.errors import BrokerError, Condition
from local.service_bus.model import AccessRule, Right

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_PREFIX = "SharedAccessSignature "
_ALL = frozenset(Right)


@dataclass(frozen=True, slots=True)
class Grant:
    """Rights to one path and everything below it, until then (seconds)."""

    path: str
    until_s: int
    rights: frozenset[Right] = _ALL

    def covers(self, path: str, now_s: float, right: Right | None = None) -> bool:
        """Whether this grant opens that path now, for this (None: for anything)."""
        wanted = path.lower().strip("/")
        is_below = wanted == self.path or wanted.startswith(f"{self.path}/") or not self.path
        return is_below and self.until_s > now_s and (right is None or right in self.rights)


@dataclass(frozen=True, slots=True)
class SharedKey:
    """The one key of the namespace; it may manage, send and listen."""

    name: str
    key: str


class Keyring:
    """The namespace's key, and those of the entities."""

    def __init__(self, key: SharedKey, rules: Callable[[str], Iterable[AccessRule]]) -> None:
        self._key = key
        self._rules = rules

    def check(self, token: str, now_s: float) -> Grant:
        """What a token grants.

        Raises:
            BrokerError: it is no signature, not by a key that counts there, or too old.
        """
        if not token.startswith(_PREFIX):
            raise _refusal("only shared access signatures are accepted here")
        fields = parse_qs(token.removeprefix(_PREFIX), keep_blank_values=True)
        # What was signed is the resource as it stands in the token, still encoded.
        parts = (part.partition("=") for part in token.removeprefix(_PREFIX).split("&"))
        raw = {name: value for name, _, value in parts}
        try:
            resource, signature = fields["sr"][0], fields["sig"][0]
            until_s, name = int(fields["se"][0]), unquote_plus(fields["skn"][0])
        except (KeyError, ValueError):
            raise _refusal("sr, sig, se and skn are needed") from None
        path = path_of(resource).lower().strip("/")
        signed = f"{raw['sr']}\n{fields['se'][0]}".encode()
        rights = self._rights(name, signed, signature, path)
        if rights is None:
            raise _refusal("the key name or the key is wrong")
        if until_s <= now_s:
            raise _refusal("the signature has expired")
        return Grant(path, until_s, rights)

    def _rights(
        self, name: str, signed: bytes, signature: str, path: str
    ) -> frozenset[Right] | None:
        if name == self._key.name and _is_signed(self._key.key, signed, signature):
            return _ALL
        for rule in self._rules(path):
            keys = (rule.primary_key, rule.secondary_key)
            if rule.key_name == name and any(_is_signed(k, signed, signature) for k in keys):
                return frozenset(Right(right) for right in rule.rights)
        return None

    def is_login(self, name: str, password: str) -> bool:
        """Whether a SASL PLAIN login carries the namespace's key itself."""
        is_key = hmac.compare_digest(password.encode(), self._key.key.encode())
        return is_key and name == self._key.name


def _is_signed(key: str, signed: bytes, signature: str) -> bool:
    expected = b64encode(hmac.digest(key.encode(), signed, sha256)).decode()
    return hmac.compare_digest(expected.encode(), signature.encode())


def path_of(address: str) -> str:
    """An address without scheme and host: `sb://host:port/queue` names `queue`."""
    _, is_url, rest = address.partition("://")
    return rest.partition("/")[2] if is_url else address


def _refusal(why: str) -> BrokerError:
    return BrokerError(Condition.UNAUTHORIZED, f"Unauthorized access: {why}.")
