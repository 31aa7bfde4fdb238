"""What one instance is told at its start, and what it reads from the space's own vault."""

from __future__ import annotations

import ssl
from typing import Literal

import aiohttp
import msgspec

_API_VERSION = "7.6"
_TIMEOUT_S = 5.0


class InstanceConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where an instance lives and how it reads its vault; all else is in the vault."""

    instance: str
    zone: str
    port: int
    vault_uri: str
    vault_token: str
    ca_file: str
    front_door_id: str = ""
    """Requests must carry it as X-Azure-FDID, as behind the cloud's front door; empty: any."""


class Database(msgspec.Struct, frozen=True, kw_only=True):
    """The space's database and the role that owns it."""

    host: str
    port: int
    name: str
    user: str
    password: str


class Storage(msgspec.Struct, frozen=True, kw_only=True):
    """The space's storage account and the container of its documents."""

    connection_string: str
    container: str


class Presentation(msgspec.Struct, frozen=True, kw_only=True):
    """What the page for people is called."""

    title: str = "Space"
    locale: str = "en"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The secret `settings`; fields this application does not know are other readers' matter."""

    version: Literal[1]
    space_id: str
    name: str
    release: str
    database: Database
    storage: Storage
    app: Presentation = Presentation()


class NoSettingsError(Exception):
    """The settings are not there, or not readable, for the reason given."""


async def read_settings(config: InstanceConfig) -> Settings:
    """The latest version of the secret `settings`.

    Raises:
        NoSettingsError: not there yet, refused, unreadable, or the vault does not answer.
    """
    url = f"{config.vault_uri}secrets/settings?api-version={_API_VERSION}"
    headers = {"Authorization": f"Bearer {config.vault_token}"}
    try:
        tls = ssl.create_default_context(cafile=config.ca_file)
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, headers=headers, ssl=tls) as answer,
        ):
            if answer.status == 404:
                raise NoSettingsError("the vault holds no settings yet")
            if answer.status != 200:
                raise NoSettingsError(f"the vault answered {answer.status}")
            secret = await answer.json()
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise NoSettingsError(f"the vault cannot be read: {type(error).__name__}") from error
    try:
        return msgspec.json.decode(secret["value"], type=Settings)
    except (msgspec.MsgspecError, KeyError) as error:
        # The message names a path and types, never a value: no password gets into a log by it.
        raise NoSettingsError(f"the settings are not readable: {error}") from error
