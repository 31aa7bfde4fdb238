"""An error becomes its problem document (RFC 9457), in this one place."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spaces.errors import KpaxError

TYPE_PREFIX = "https://errors.kpax.invalid/"


def problem(error: KpaxError, *, instance: str = "") -> dict[str, object]:
    """The problem document of an error: title = what, detail = where and what to do.

    `instance` is the request id. Extra members of the error stand beside the standard ones.
    """
    detail = " ".join(
        part for part in (error.where and f"{error.where}.", error.remedy) if part
    )
    document: dict[str, object] = {
        "type": TYPE_PREFIX + error.problem_slug,
        "title": error.what,
        "status": error.problem_status,
        "detail": detail or error.what,
    }
    if instance:
        document["instance"] = instance
    if error.errors:
        document["errors"] = [
            {"pointer": e.pointer, "code": e.code, "message": e.message} for e in error.errors
        ]
    document.update(error.members)
    return document
