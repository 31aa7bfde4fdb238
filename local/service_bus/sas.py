"""Shared access signatures: is this token good, and for which entities."""

from __future__ import annotations

import hmac
from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import parse_qs, unquote_plus

from local.service_bus.errors import BrokerError, Condition

_PREFIX = "SharedAccessSignature "


@dataclass(frozen=True, slots=True)
class Grant:
    """The right to one path and everything below it, until then (seconds)."""

    path: str
    until_s: int

    def covers(self, path: str, now_s: float) -> bool:
        """Whether this grant opens that path now."""
        wanted = path.lower().strip("/")
        is_below = wanted == self.path or wanted.startswith(f"{self.path}/") or not self.path
        return is_below and self.until_s > now_s


@dataclass(frozen=True, slots=True)
class SharedKey:
    """The one key of the namespace; it may manage, send and listen."""

    name: str
    key: str

    def check(self, token: str, now_s: float) -> Grant:
        """What a token grants.

        Raises:
            BrokerError: it is no signature, not ours, or too old.
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
        signed = f"{raw['sr']}\n{fields['se'][0]}".encode()
        expected = b64encode(hmac.digest(self.key.encode(), signed, sha256)).decode()
        is_ours = hmac.compare_digest(expected.encode(), signature.encode())
        if name != self.name or not is_ours:
            raise _refusal("the key name or the key is wrong")
        if until_s <= now_s:
            raise _refusal("the signature has expired")
        return Grant(path_of(resource).lower().strip("/"), until_s)

    def is_login(self, name: str, password: str) -> bool:
        """Whether a SASL PLAIN login carries the key itself."""
        return hmac.compare_digest(password.encode(), self.key.encode()) and name == self.name


def path_of(address: str) -> str:
    """An address without scheme and host: `sb://host:port/queue` names `queue`."""
    _, is_url, rest = address.partition("://")
    return rest.partition("/")[2] if is_url else address


def _refusal(why: str) -> BrokerError:
    return BrokerError(Condition.UNAUTHORIZED, f"Unauthorized access: {why}.")
