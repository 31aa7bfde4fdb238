"""Settings are read once, typed, and refused by name when they are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from spaces.errors import InvalidError
from spaces.settings import ROOT, read
from tests.builders import some_environment, some_settings

REQUIRED = (
    "KPAX_SUBSCRIPTION_ID",
    "KPAX_CLUSTER_VAULTS",
    "KPAX_BACKUP_ACCOUNTS",
    "KPAX_SPACE_DOMAIN",
    "KPAX_DECISION_KEY",
    "KPAX_API_KEY",
)


@pytest.mark.parametrize("name", REQUIRED)
def test_a_setting_that_is_missing_is_named(name: str) -> None:
    environment = some_environment()
    del environment[name]
    with pytest.raises(InvalidError, match=f"{name} is not set"):
        read(environment)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KPAX_POLL_FLOOR_S", "soon"),
        ("KPAX_POLL_FLOOR_S", "-1"),
        ("KPAX_BACKUP_WINDOW_S", "inf"),
        ("KPAX_BACKUP_WINDOW_S", "nan"),
        ("KPAX_ALLOW_SHARED_KEY", "yes"),
        ("KPAX_CLUSTER_VAULTS", "{"),
        ("KPAX_CLUSTER_VAULTS", "[]"),
    ],
)
def test_a_setting_that_is_malformed_is_named(name: str, value: str) -> None:
    with pytest.raises(InvalidError, match=name):
        some_settings(**{name: value})


def test_what_is_left_out_has_the_value_of_the_cloud() -> None:
    environment = some_environment()
    for name in ("KPAX_ARM_ENDPOINT", "KPAX_SPACE_URL", "KPAX_ALLOW_SHARED_KEY"):
        del environment[name]
    settings = read(environment)
    assert settings.arm_endpoint == "https://management.azure.com"
    assert settings.url_of("acme", "france") == "https://acme.france.localhost"
    assert settings.allow_shared_key is False
    assert settings.poll_floor_s == 5.0
    assert settings.order_lapse_s == 48 * 3600
    assert settings.unknown_order_s == 120
    assert (settings.bus_admin, settings.ca_file, settings.ports_wrapper) == (None, None, None)
    assert settings.template == ROOT / "infra" / "space.json"


def test_a_url_is_computed_from_the_name_and_never_ends_in_a_slash() -> None:
    settings = some_settings(
        KPAX_SPACE_DOMAIN="spaces.example", KPAX_SPACE_URL="http://{host}:8080/"
    )
    assert settings.url_of("acme", "uk") == "http://acme.uk.spaces.example:8080"


def test_types_and_units_are_the_settings_own() -> None:
    settings = some_settings(
        KPAX_POLL_FLOOR_S="0.5",
        KPAX_CA_FILE="/tmp/ca.pem",  # noqa: S108 — a name, not a file
        KPAX_BUS_ADMIN="http://127.0.0.1:1",
        KPAX_PORTS_WRAPPER="tests.x:y",
    )
    assert settings.poll_floor_s == 0.5
    assert settings.ca_file == Path("/tmp/ca.pem")  # noqa: S108
    assert settings.bus_admin == "http://127.0.0.1:1"
    assert settings.ports_wrapper == "tests.x:y"
    assert settings.cluster_vaults["south-africa"].startswith("https://")


def test_no_secret_is_shown_by_repr() -> None:
    environment = some_environment()
    shown = repr(read(environment))
    for name in (
        "KPAX_STORAGE",
        "ServiceBus",
        "KPAX_STATIC_TOKEN",
        "KPAX_DECISION_KEY",
        "KPAX_API_KEY",
    ):
        assert environment[name] not in shown
    assert "a2V5" not in shown
