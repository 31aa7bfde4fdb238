"""Whether a caller takes what we have to say (RFC 9110, 12.5.1). Pure."""

from __future__ import annotations

_RANGES = {"*/*": 0, "application/*": 1, "application/json": 2}
"""Media ranges that our answers fall into, the more exact the higher."""


def takes_json(header: str) -> bool:
    """True when an `Accept` header, or its absence, lets us answer in JSON.

    The most exact range decides, so that `application/json;q=0, */*` takes everything but JSON.
    """
    if not header.strip():
        return True
    closest, weight = -1, 0.0
    for entry in header.split(","):
        media, _, parameters = entry.partition(";")
        exactness = _RANGES.get(media.strip().lower(), -1)
        if exactness > closest:
            closest, weight = exactness, _weight(parameters)
    return weight > 0


def _weight(parameters: str) -> float:
    """The `q` of a range; 1 where there is none that can be read."""
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return float(value)
            except ValueError:
                return 1.0
    return 1.0
