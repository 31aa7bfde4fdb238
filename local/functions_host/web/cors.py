"""Cross-origin requests, as far as the host answers them itself: by two app settings.

`host.json` has no setting for it; on Azure it is one of the platform, which tells the host by
`CORS_ALLOWED_ORIGINS` (a JSON array) and `CORS_SUPPORT_CREDENTIALS` (true or false).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from local.errors import Code, StackError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

_NAMES = "CORS_ALLOWED_ORIGINS", "CORS_SUPPORT_CREDENTIALS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cors:
    """Whose pages may call; without origins nobody's but our own."""

    origins: frozenset[str] = frozenset()
    credentials: bool = False

    def headers(self, request: web.BaseRequest) -> dict[str, str]:
        """What to add to the answer of a request: nothing where its origin is not allowed."""
        origin = request.headers.get("Origin")
        is_any = "*" in self.origins
        if origin is None or not (is_any or origin.lower() in self.origins):
            return {}
        headers = {"Access-Control-Allow-Origin": "*" if is_any else origin}
        if not is_any:
            headers["Vary"] = "Origin"
        if self.credentials:
            headers["Access-Control-Allow-Credentials"] = "true"
        return headers

    def preflight(self, request: web.BaseRequest) -> dict[str, str] | None:
        """The headers of the answer to a browser that asks before it sends; None: it does not ask."""
        wanted = request.headers.get("Access-Control-Request-Method")
        if not self.origins or request.method != "OPTIONS" or wanted is None:
            return None
        headers = self.headers(request)
        if headers:
            headers["Access-Control-Allow-Methods"] = wanted
            asked = request.headers.get("Access-Control-Request-Headers")
            if asked:
                headers["Access-Control-Allow-Headers"] = asked
        return headers


def read_cors(environ: Mapping[str, str]) -> Cors:
    """The settings in the environment.

    Raises:
        StackError: they are malformed, or would give every page a user's credentials.
    """
    origins_name, credentials_name = _NAMES
    text = environ.get(origins_name)
    try:
        origins = json.loads(text) if text else []
    except ValueError:
        origins = None
    if not isinstance(origins, list) or not all(isinstance(one, str) for one in origins):
        raise StackError(
            f"The app setting {origins_name!r} must be a JSON array of origins.",
            code=Code.BAD_INPUT,
        )
    credentials = environ.get(credentials_name, "").lower() == "true"
    if credentials and "*" in origins:
        raise StackError(
            f"{credentials_name} cannot be true where {origins_name} has '*'.",
            code=Code.BAD_INPUT,
        )
    found = frozenset(one.rstrip("/").lower() for one in origins)
    return Cors(origins=found, credentials=credentials)
