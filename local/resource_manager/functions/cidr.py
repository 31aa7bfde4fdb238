"""Functions of address ranges."""

from __future__ import annotations

import ipaddress
from typing import Any

from local.resource_manager.errors import TemplateError
from local.resource_manager.functions.registry import template_function
from local.resource_manager.values import text, whole

type Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@template_function("parseCidr", 1)
def _parse_cidr(value: str) -> dict[str, Any]:
    network = _network(value, strict=False)
    usable = network.num_addresses > 2
    shown: dict[str, Any] = {
        "network": str(network.network_address),
        "netmask": str(network.netmask),
        "broadcast": str(network.broadcast_address),
        "firstUsable": str(network.network_address + 1 if usable else network.network_address),
        "lastUsable": str(
            network.broadcast_address - 1 if usable else network.broadcast_address
        ),
        "cidr": network.prefixlen,
    }
    if network.version == 6:
        del shown["broadcast"], shown["netmask"]
    return shown


@template_function("cidrSubnet", 3)
def _cidr_subnet(value: str, prefix: int, index: int) -> str:
    network = _network(value, strict=False)
    if not network.prefixlen <= whole(prefix, "cidrSubnet") <= network.max_prefixlen:
        raise TemplateError(f"cidrSubnet: {value} has no subnets of /{prefix}")
    if not 0 <= whole(index, "cidrSubnet") < 2 ** (prefix - network.prefixlen):
        raise TemplateError(f"cidrSubnet: {value} has no subnet number {index} of /{prefix}")
    first = int(network.network_address) + index * 2 ** (network.max_prefixlen - prefix)
    return f"{type(network.network_address)(first)}/{prefix}"


@template_function("cidrHost", 2)
def _cidr_host(value: str, index: int) -> str:
    network = _network(value, strict=False)
    if not 0 <= whole(index, "cidrHost") < network.num_addresses - 2:
        raise TemplateError(f"cidrHost: {value} has no usable address number {index}")
    return str(network.network_address + 1 + index)


def _network(value: str, *, strict: bool) -> Network:
    try:
        return ipaddress.ip_network(text(value, "parseCidr"), strict=strict)
    except ValueError as error:
        raise TemplateError(f"'{value}' is no address range") from error
