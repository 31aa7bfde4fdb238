"""Where a call comes from, and how often it may come; memory of this process only.

An address is used for the moment and never stored or logged.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from spaces.rate import Bucket

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_BUCKETS = 10_000

type Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_buckets: dict[str, Bucket] = {}


def address_of(headers: Mapping[str, str], *, hops: int) -> Address | None:
    """The caller's address as the outermost of our own `hops` proxies saw it; None if unknown.

    Each proxy adds to the right of `X-Forwarded-For` whom it was called by. What stands left of
    our own entries is the caller's word and counts for nothing.
    """
    entries = [entry.strip() for entry in headers.get("x-forwarded-for", "").split(",")]
    if not hops or not any(entries):
        return None
    return _parsed(entries[-min(hops, len(entries))])


def told_address(headers: Mapping[str, str]) -> Address | None:
    """The first address of `X-Forwarded-For`: the end of the way, as the caller tells it.

    Only for callers that we know: a service of ours that asks for somebody else.
    """
    return _parsed(headers.get("x-forwarded-for", "").partition(",")[0].strip())


def limit(name: str, *, per_min: int) -> None:
    """Take one call from the bucket of this name; `ThrottledError` when it is empty."""
    bucket = _buckets.get(name)
    if bucket is None:
        if len(_buckets) >= MOST_BUCKETS:
            _buckets.clear()
        bucket = _buckets[name] = Bucket(per_min)
    bucket.take()


def forget() -> None:
    """Fill every bucket again."""
    _buckets.clear()


def neighbourhood(address: Address | None) -> str:
    """The network that shares one bucket: 256 addresses of version 4, a site of version 6."""
    if address is None:
        return "unknown"
    bits = 24 if address.version == 4 else 64
    return str(ipaddress.ip_network((address, bits), strict=False))


def _parsed(entry: str) -> Address | None:
    """An entry with or without a port: `192.0.2.7:80`, `[2001:db8::7]:80`, `2001:db8::7`."""
    bare = entry
    if entry.startswith("["):
        bare = entry[1:].partition("]")[0]
    elif entry.count(":") == 1:
        bare = entry.partition(":")[0]
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
