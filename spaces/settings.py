"""What the deployment tells the code, with type and unit; read once, refused when wrong.

Locally and on Azure the same names; only the values differ. Names of Service Bus and storage
settings are those that the Functions host itself reads for its triggers.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from spaces.errors import InvalidError

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of the application.

    Exactly one of `storage` (a connection string) and `storage_url` (an account URL, reached
    with the managed identity) is set; likewise `bus` and `bus_namespace`. `bus_admin` is the
    plain-http address of a broker that has no https one. `ports_wrapper` names a function
    (`module:function`) that gets the opened ports and answers those to use. `forwarded_hops` counts
    our own proxies in front of the app; `ip_database` is an operator's file of networks and countries.
    At most one of `billing_url` and `billing_file` tells where the billing list is.
    """

    storage: str | None = field(repr=False)
    storage_url: str | None
    bus: str | None = field(repr=False)
    bus_namespace: str | None
    bus_admin: str | None
    arm_endpoint: str
    subscription_id: str
    static_token: str | None = field(repr=False)
    cluster_vaults: Mapping[str, str]
    backup_accounts: Mapping[str, str] = field(repr=False)
    ca_file: Path | None
    space_domain: str
    space_url: str
    space_resolve: str | None
    pg_bin: Path | None
    decision_key: str = field(repr=False)
    api_key: str = field(repr=False)
    master_key: str | None = field(repr=False)
    poll_floor_s: float
    sweep_grace_s: float
    order_lapse_s: float
    unknown_order_s: float
    retention_days: float
    backup_window_s: float
    backup_jitter_s: float
    route_rate_per_min: int
    key_rate_per_min: int
    forwarded_hops: int
    ip_database: Path | None
    billing_url: str | None
    billing_token: str | None = field(repr=False)
    billing_file: Path | None
    release: str
    control_principal: str
    allow_shared_key: bool
    template: Path
    ports_wrapper: str | None

    def url_of(self, name: str, cluster: str) -> str:
        """The public URL of a space, without a trailing slash; computed, never stored."""
        host = host_name(name, cluster, self.space_domain)
        return self.space_url.format(host=host, name=name, cluster=cluster).rstrip("/")


def host_name(name: str, cluster: str, domain: str) -> str:
    """The host name of a space under the domain of the estate."""
    return f"{name}.{cluster}.{domain}"


@functools.cache
def settings() -> Settings:
    """The settings of this process, read from its environment once."""
    return read(os.environ)


def read(env: Mapping[str, str]) -> Settings:
    """Read settings from names and values.

    Raises `InvalidError`, which names the setting that is missing or malformed.
    """
    take = _Reader(env)
    return Settings(
        storage=env.get("KPAX_STORAGE") or None,
        storage_url=env.get("KPAX_STORAGE_URL") or None,
        bus=env.get("ServiceBus") or None,
        bus_namespace=env.get("ServiceBus__fullyQualifiedNamespace") or None,
        bus_admin=env.get("KPAX_BUS_ADMIN") or None,
        arm_endpoint=env.get("KPAX_ARM_ENDPOINT", "https://management.azure.com"),
        subscription_id=take.text("KPAX_SUBSCRIPTION_ID"),
        static_token=env.get("KPAX_STATIC_TOKEN") or None,
        cluster_vaults=take.mapping("KPAX_CLUSTER_VAULTS"),
        backup_accounts=take.mapping("KPAX_BACKUP_ACCOUNTS"),
        ca_file=take.path("KPAX_CA_FILE"),
        space_domain=take.text("KPAX_SPACE_DOMAIN"),
        space_url=env.get("KPAX_SPACE_URL", "https://{host}"),
        space_resolve=env.get("KPAX_SPACE_RESOLVE") or None,
        pg_bin=take.path("KPAX_PG_BIN"),
        decision_key=take.text("KPAX_DECISION_KEY"),
        api_key=take.text("KPAX_API_KEY"),
        master_key=env.get("KPAX_MASTER_KEY"),
        poll_floor_s=take.number("KPAX_POLL_FLOOR_S", 5.0),
        sweep_grace_s=take.number("KPAX_SWEEP_GRACE_S", 90.0),
        order_lapse_s=take.number("KPAX_ORDER_LAPSE_S", 48 * 3600.0),
        unknown_order_s=take.number("KPAX_UNKNOWN_ORDER_S", 120.0),
        retention_days=take.number("KPAX_RETENTION_DAYS", 30.0),
        backup_window_s=take.number("KPAX_BACKUP_WINDOW_S", 4 * 3600.0),
        backup_jitter_s=take.number("KPAX_BACKUP_JITTER_S", 1800.0),
        route_rate_per_min=int(take.number("KPAX_ROUTE_RATE_PER_MIN", 600.0)),
        key_rate_per_min=int(take.number("KPAX_KEY_RATE_PER_MIN", 6000.0)),
        forwarded_hops=int(take.number("KPAX_FORWARDED_HOPS", 1.0)),
        ip_database=take.path("KPAX_IP_DATABASE"),
        billing_url=env.get("KPAX_BILLING_URL") or None,
        billing_token=env.get("KPAX_BILLING_TOKEN") or None,
        billing_file=take.path("KPAX_BILLING_FILE"),
        release=env.get("KPAX_RELEASE", "2026.11.1"),
        control_principal=env.get("KPAX_CONTROL_PRINCIPAL", "control-plane"),
        allow_shared_key=take.flag("KPAX_ALLOW_SHARED_KEY"),
        template=take.path("KPAX_SPACE_TEMPLATE") or ROOT / "infra" / "space.json",
        ports_wrapper=env.get("KPAX_PORTS_WRAPPER") or None,
    )


class _Reader:
    """Reads one setting at a time and names it when it is wrong."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env

    def text(self, name: str) -> str:
        value = self._env.get(name, "")
        if not value:
            raise _wrong(name, "is not set")
        return value

    def path(self, name: str) -> Path | None:
        value = self._env.get(name)
        return Path(value) if value else None

    def number(self, name: str, default: float) -> float:
        value = self._env.get(name)
        if value is None:
            return default
        try:
            number = float(value)
        except ValueError as error:
            raise _wrong(name, f"is not a number: {value[:40]!r}") from error
        if not 0 <= number < float("inf"):
            raise _wrong(name, f"is out of range: {value[:40]!r}")
        return number

    def flag(self, name: str) -> bool:
        value = self._env.get(name, "false").lower()
        if value not in {"true", "false"}:
            raise _wrong(name, f"is neither true nor false: {value[:40]!r}")
        return value == "true"

    def mapping(self, name: str) -> dict[str, str]:
        try:
            value: object = json.loads(self.text(name))
        except json.JSONDecodeError as error:
            raise _wrong(name, "is not JSON") from error
        if not isinstance(value, dict):
            raise _wrong(name, "is not a JSON object")
        return {str(key): str(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def _wrong(name: str, how: str) -> InvalidError:
    return InvalidError(
        f"setting {name} {how}",
        where="application settings",
        remedy="Locally `kpax up` gives it; on Azure it stands in the function app's settings.",
    )
