"""What tags may be, as the service has it."""

from __future__ import annotations

from typing import Any

from local.resource_manager.errors import ArmError
from local.resource_manager.values import UNKNOWN

_MOST = 50
_NAME, _VALUE = 512, 256
_RESERVED = "<>%&\\?/"


def check_tags(tags: Any) -> None:  # noqa: ANN401 — as it came
    """Refuse tags that are too many, too long, or have names of reserved characters.

    Raises:
        ArmError: as said.
    """
    if tags is None or tags is UNKNOWN:
        return
    if not isinstance(tags, dict):
        raise ArmError("InvalidRequestContent", "'tags' must be an object of strings.")
    if len(tags) > _MOST:
        raise ArmError(
            "InvalidTagCount", f"There are {len(tags)} tags; a resource has at most {_MOST}."
        )
    for name, value in tags.items():
        if not name or len(name) > _NAME:
            raise ArmError(
                "InvalidTagNameLength",
                f"A tag name has 1 to {_NAME} characters: '{name[:80]}'.",
            )
        if any(mark in _RESERVED or ord(mark) < 32 for mark in name):
            raise ArmError(
                "InvalidTagNameCharacters",
                f"The tag names '{name}' have reserved characters '{','.join(_RESERVED)}' or "
                "control characters.",
            )
        if value is UNKNOWN:
            continue
        if not isinstance(value, str | int | float | bool):
            raise ArmError(
                "InvalidRequestContent", f"The value of the tag '{name}' is no text."
            )
        if len(str(value)) > _VALUE:
            raise ArmError(
                "InvalidTagValueLength",
                f"The value of the tag '{name}' is longer than {_VALUE} characters.",
            )
