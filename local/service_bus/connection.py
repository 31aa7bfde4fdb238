"""How clients of the local broker connect."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from local.home import Home

KEY_NAME = "kpax"


def connection_string(home: Home) -> str:
    """The connection string of this home's broker, for any Service Bus client."""
    return _string(home, "service_bus")


def admin_connection_string(home: Home) -> str:
    """The same for the administration client, which goes to another port, by plain http."""
    return _string(home, "service_bus_admin")


def _string(home: Home, port: str) -> str:
    return (
        f"Endpoint=sb://127.0.0.1:{home.port(port)};SharedAccessKeyName={KEY_NAME};"
        f"SharedAccessKey={home.secret('service_bus_key')};UseDevelopmentEmulator=true"
    )
