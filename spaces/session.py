"""The console asks for the key once: after that a cookie says that it was good.

The cookie holds an expiry and its HMAC under the key; it opens the console's pages and nothing
else, and a changed key ends every session.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from http.cookies import CookieError, SimpleCookie

NAME = "kpax_console"
LIFETIME = timedelta(hours=12)


def cookie(key: str, *, now: datetime, secure: bool) -> str:
    """The `Set-Cookie` value of a new session."""
    expires = int((now + LIFETIME).timestamp())
    parts = [
        f"{NAME}={expires}.{_mac(key, expires)}",
        "Path=/console",
        f"Max-Age={int(LIFETIME.total_seconds())}",
        "HttpOnly",
        "SameSite=Strict",
    ]
    return "; ".join(parts + (["Secure"] if secure else []))


def is_good(header: str, key: str, *, now: datetime) -> bool:
    """True when a `Cookie` header carries a session that this key made and that still runs."""
    try:
        morsel = SimpleCookie(header).get(NAME)
    except CookieError:
        return False
    expires, _, mac = (morsel.value if morsel else "").partition(".")
    if not expires.isascii() or not expires.isdigit() or len(expires) > 12:
        return False
    good = hmac.compare_digest(mac.encode(), _mac(key, int(expires)).encode())
    return good and datetime.fromtimestamp(int(expires), tz=UTC) > now


def _mac(key: str, expires: int) -> str:
    return hmac.new(key.encode(), f"console:{expires}".encode(), hashlib.sha256).hexdigest()
