"""A database of networks and countries in MaxMind's format 2.0, small enough to be written here."""

from __future__ import annotations

import ipaddress

_MARK = b"\xab\xcd\xefMaxMind.com"


def a_database(networks: dict[str, str]) -> bytes:
    """The file: networks of version 4 by their country's code."""
    tree: list[list[object]] = [[None, None]]
    for network, code in networks.items():
        net = ipaddress.IPv4Network(network)
        bits = f"{int(net.network_address):032b}"[: net.prefixlen]
        at = 0
        for bit in bits[:-1]:
            child = tree[at][int(bit)]
            if not isinstance(child, int):
                tree.append([None, None])
                child = tree[at][int(bit)] = len(tree) - 1
            at = child
        tree[at][int(bits[-1])] = code
    data, places = b"", dict[str, int]()
    for code in sorted(set(networks.values())):
        places[code] = len(data)
        data += _map({"country": {"iso_code": code}})
    count = len(tree)

    def record(child: object) -> bytes:
        if isinstance(child, str):
            return (count + 16 + places[child]).to_bytes(3, "big")
        return (count if child is None else int(str(child))).to_bytes(3, "big")

    nodes = b"".join(record(child) for node in tree for child in node)
    about = {
        "node_count": (6, count),
        "record_size": (5, 24),
        "ip_version": (5, 4),
        "database_type": "Test-Country",
        "binary_format_major_version": (5, 2),
        "binary_format_minor_version": (5, 0),
        "build_epoch": (9, 1_790_000_000),
        "description": {"en": "of a test"},
        "languages": ["en"],
    }
    return nodes + bytes(16) + data + _MARK + _map(about)


def _map(value: dict[str, object]) -> bytes:
    body = b"".join(_text(name) + _value(item) for name, item in value.items())
    return bytes([7 << 5 | len(value)]) + body


def _value(value: object) -> bytes:
    match value:
        case dict():
            return _map(value)
        case list():
            return bytes([len(value), 11 - 7]) + b"".join(map(_value, value))
        case (
            kind,
            int() as number,
        ):  # its type (unsigned of 16, 32 or 64 bits), and the number
            raw = number.to_bytes(8, "big").lstrip(b"\0")
            return bytes([kind << 5 | len(raw)] if kind < 8 else [len(raw), kind - 7]) + raw
        case _:
            return _text(str(value))


def _text(value: str) -> bytes:
    raw = value.encode()
    assert len(raw) < 29
    return bytes([2 << 5 | len(raw)]) + raw
