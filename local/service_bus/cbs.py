"""The node `$cbs`: tokens that open the namespace to a connection."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from local.service_bus import codec
from local.service_bus.errors import BrokerError, Condition
from local.service_bus.exchange import Request, answer, text

if TYPE_CHECKING:
    from local.service_bus.sas import Grant, Keyring


def put_token(request: Request, keys: Keyring, grants: list[Grant]) -> bytes:
    """Check a token, add what it grants, and answer."""
    now_s = time.time()
    try:
        grant = _check(request, keys, now_s)
    except BrokerError as refusal:
        return _answer(request, refusal.status, refusal.description)
    grants[:] = [
        held
        for held in grants
        if held.until_s > now_s and (held.path, held.rights) != (grant.path, grant.rights)
    ]
    grants.append(grant)
    return _answer(request, 202, "Accepted")


def _check(request: Request, keys: Keyring, now_s: float) -> Grant:
    if request.properties.get("operation") != "put-token":
        raise BrokerError(Condition.NOT_IMPLEMENTED, "$cbs knows put-token only.")
    # The SDK calls its signatures "jwt" or "…:sastoken", by transport: the token itself tells.
    token = text(request.body)
    if not isinstance(token, str):
        raise BrokerError(Condition.UNAUTHORIZED, "Unauthorized access: no token was sent.")
    return keys.check(token, now_s)


def _answer(request: Request, status: int, description: str) -> bytes:
    # Hyphens here, camel case in $management: the SDK looks for exactly these.
    properties = (
        codec.string("status-code"),
        codec.int_(status),
        codec.string("status-description"),
        codec.string(description),
    )
    return answer(request, properties, codec.NULL)
