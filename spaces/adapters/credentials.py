"""Who this process is to Azure: the managed identity, or one fixed token."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from azure.core.credentials import AccessToken, AccessTokenInfo

if TYPE_CHECKING:
    from types import TracebackType

    from azure.core.credentials_async import AsyncTokenCredential


class StaticCredential:
    """Answers the same bearer token for every scope; never renewed, never sent but over the wire."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def get_token(self, *scopes: str, **kwargs: Any) -> AccessToken:  # noqa: ANN401 — the SDKs' protocol
        """The token, good for an hour as far as the caller's cache is concerned."""
        return AccessToken(self._token, int(time.time()) + 3600)

    async def get_token_info(self, *scopes: str, options: Any = None) -> AccessTokenInfo:  # noqa: ANN401
        """The same, in the newer protocol."""
        return AccessTokenInfo(self._token, int(time.time()) + 3600)

    async def close(self) -> None:
        """Nothing is held."""

    async def __aenter__(self) -> StaticCredential:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Nothing is held."""


def credential(static_token: str | None) -> AsyncTokenCredential:
    """The fixed token where there is one, else the identity that the platform gives."""
    if static_token is not None:
        return StaticCredential(static_token)
    from azure.identity.aio import DefaultAzureCredential  # noqa: PLC0415 — 0.2 s of import

    return DefaultAzureCredential()
