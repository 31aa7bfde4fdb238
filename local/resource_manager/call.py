"""One call as the handlers see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiohttp import web

from local.resource_manager.errors import bad_request
from local.resource_manager.ids import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request with its path taken apart; `query` has lower-case names."""

    request: web.Request
    path: Path
    principal: str
    query: dict[str, str]
    body: Any
    end_as: dict[str, Any] | None = None
    """A fault that decides how the operation ends which this call starts."""

    @property
    def method(self) -> str:
        """GET, PUT and so on."""
        return self.request.method

    def content(self) -> dict[str, Any]:
        """The body, which must be an object.

        Raises:
            ArmError: it is none.
        """
        if not isinstance(self.body, dict):
            raise bad_request("The request content must be a JSON object.")
        return self.body
