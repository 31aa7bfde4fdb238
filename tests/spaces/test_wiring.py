"""Ports are opened once, from the settings, on the loop that uses them, and closed together."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from spaces import wiring
from spaces.adapters.credentials import StaticCredential, credential
from spaces.adapters.opening import opened
from spaces.errors import InvalidError, TransientError
from spaces.ports import Insert, Ports
from spaces.settings import ROOT, settings
from tests.builders import some_environment, some_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def environment(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[pytest.MonkeyPatch]:
    """The builders' settings as this process's own; nothing stays open."""
    for name, value in some_environment(KPAX_BILLING_URL="http://127.0.0.1:9").items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    yield monkeypatch
    await wiring.close()
    settings.cache_clear()


async def test_ports_are_opened_once(environment: pytest.MonkeyPatch) -> None:
    first = wiring.ports()
    assert wiring.ports() is first
    await wiring.close()
    assert wiring.ports() is not first


async def test_closing_what_was_never_opened_is_nothing(
    environment: pytest.MonkeyPatch,
) -> None:
    await wiring.close()
    await wiring.close()


async def test_every_port_has_its_adapter(environment: pytest.MonkeyPatch) -> None:
    ports = wiring.ports()
    for field in dataclasses.fields(Ports):
        assert type(getattr(ports, field.name)).__module__.startswith("spaces.adapters.")


async def test_nothing_is_connected_before_its_first_call(
    environment: pytest.MonkeyPatch,
) -> None:
    wiring.ports()
    with pytest.raises(TransientError):
        await wiring.ports().tables.commit("rows", "p", [Insert("r", {})])


def test_each_loop_may_open_its_own_when_the_last_one_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in some_environment().items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()

    async def use() -> None:
        with pytest.raises(TransientError):
            await wiring.ports().arm.get_stack("x")
        await wiring.close()

    for _ in range(2):
        asyncio.run(use())
    settings.cache_clear()


class Wrapped:
    """Stands where a fault test would stand."""

    def __init__(self, inner: object) -> None:
        self.inner = inner


def wrap(ports: Ports) -> Ports:
    return dataclasses.replace(ports, tables=Wrapped(ports.tables))  # pyright: ignore[reportArgumentType]


async def test_a_wrapper_stands_between_the_product_and_its_ports(
    environment: pytest.MonkeyPatch,
) -> None:
    environment.setenv("KPAX_PORTS_WRAPPER", f"{__name__}:wrap")
    environment.setitem(sys.modules, __name__, sys.modules[wrap.__module__])
    settings.cache_clear()
    assert type(wiring.ports().tables).__name__ == "Wrapped"


@pytest.mark.parametrize("name", ["nowhere:wrap", "spaces.ports:nothing", "spaces.ports", ":x"])
async def test_a_wrapper_that_is_not_there_is_named(
    environment: pytest.MonkeyPatch, name: str
) -> None:
    environment.setenv("KPAX_PORTS_WRAPPER", name)
    settings.cache_clear()
    with pytest.raises(InvalidError, match="KPAX_PORTS_WRAPPER"):
        wiring.ports()


@pytest.mark.parametrize(
    "over",
    [
        {"KPAX_STORAGE": ""},
        {"KPAX_STORAGE_URL": "https://kx.table.core.windows.net"},
        {"ServiceBus": ""},
        {"ServiceBus__fullyQualifiedNamespace": "kx.servicebus.windows.net"},
    ],
)
def test_a_service_that_is_named_twice_or_not_at_all_is_refused(over: dict[str, str]) -> None:
    with pytest.raises(InvalidError, match="exactly one"):
        opened(some_settings(**over))


async def test_on_azure_every_client_opens_with_the_managed_identity() -> None:
    given = some_settings(
        KPAX_STORAGE="",
        KPAX_STORAGE_URL="https://kx.table.core.windows.net",
        ServiceBus="",
        ServiceBus__fullyQualifiedNamespace="kx.servicebus.windows.net",
        KPAX_ARM_ENDPOINT="https://management.azure.com",
        KPAX_STATIC_TOKEN="",
        KPAX_ALLOW_SHARED_KEY="false",
    )
    now = opened(given)
    blobs = await now.ports.accounts.of_space("rg", "kx", "https://kx.blob.core.windows.net/")
    assert await now.ports.accounts.connection_of_space("rg", "kx", "https://kx/") == {
        "account_url": "https://kx/"
    }
    assert blobs is not None
    await now.close()


async def test_a_fixed_token_is_the_credential_where_there_is_one() -> None:
    fixed = credential("the-token")
    assert isinstance(fixed, StaticCredential)
    assert (await fixed.get_token("any scope")).token == "the-token"
    assert (await fixed.get_token_info("any scope")).token == "the-token"
    other = credential(None)
    assert type(other).__name__ == "DefaultAzureCredential"
    await other.close()


def test_importing_the_wiring_imports_no_sdk() -> None:
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            (
                "import sys, spaces.wiring, spaces.ports, spaces.telemetry;"
                "print([m for m in sys.modules if m.startswith(('azure', 'aiohttp', 'asyncpg'))])"
            ),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=dict(os.environ),
        check=True,
    )
    assert told.stdout.strip() == "[]"


async def test_where_nobody_says_where_billing_is_there_is_nobody_to_ask() -> None:
    now = opened(some_settings())
    assert now.ports.billing is None
    await now.close()


def test_a_billing_list_in_two_places_is_refused() -> None:
    with pytest.raises(InvalidError, match="KPAX_BILLING_FILE"):
        opened(some_settings(KPAX_BILLING_URL="http://127.0.0.1:9", KPAX_BILLING_FILE="/tmp/b"))  # noqa: S108 - never opened
