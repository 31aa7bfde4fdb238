"""What the Resource Manager says when it says no: a code, a sentence, and the causes inside.

Codes are those of the real service where they are known; clients choose by code, never by
sentence. An error is also a value: operations store it and answer it again after a restart.
"""

from __future__ import annotations

from typing import Any


class ArmError(Exception):
    """One refusal or failure, as the wire shows it: `{"error": {code, message, details}}`."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int = 400,
        target: str | None = None,
        details: tuple[dict[str, Any], ...] = (),
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.target = target
        self.details = details
        self.headers: dict[str, str] = {}

    def inner(self) -> dict[str, Any]:
        """The error without its envelope, as it stands in `details` and in operations."""
        said: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.target:
            said["target"] = self.target
        if self.details:
            said["details"] = list(self.details)
        return said

    def body(self) -> dict[str, Any]:
        """The body of an answer."""
        return {"error": self.inner()}


class TemplateError(ArmError):
    """The template is wrong; nothing was made."""

    def __init__(self, message: str) -> None:
        super().__init__(
            "InvalidTemplate", f"Deployment template validation failed: '{message}'."
        )
        self.reason = message


def not_found(resource_id: str) -> ArmError:
    """404 for one resource."""
    return ArmError(
        "ResourceNotFound", f"The Resource '{resource_id}' was not found.", status=404
    )


def bad_request(message: str) -> ArmError:
    """400 for a body that is not what the operation takes."""
    return ArmError("InvalidRequestContent", message)


def group_not_found(name: str) -> ArmError:
    """404 for a resource group."""
    return ArmError(
        "ResourceGroupNotFound", f"Resource group '{name}' could not be found.", status=404
    )


def group_being_deleted(name: str) -> ArmError:
    """409 for a group that is on its way out."""
    return ArmError(
        "ResourceGroupBeingDeleted",
        f"The resource group '{name}' is in deprovisioning state and cannot perform this "
        "operation.",
        status=409,
    )
