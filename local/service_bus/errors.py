"""What the broker refuses, with the AMQP condition and the status code that the SDK chooses by."""

from __future__ import annotations

from enum import StrEnum


class Condition(StrEnum):
    """Error conditions on the wire; the SDK raises a class of its own for most of them."""

    LOCK_LOST = "com.microsoft:message-lock-lost"
    MESSAGE_NOT_FOUND = "com.microsoft:message-not-found"
    SESSION_LOCK_LOST = "com.microsoft:session-lock-lost"
    SESSION_TAKEN = "com.microsoft:session-cannot-be-locked"
    TIMEOUT = "com.microsoft:timeout"
    DISABLED = "com.microsoft:entity-disabled"
    ARGUMENT = "com.microsoft:argument-error"
    EXISTS = "com.microsoft:entity-already-exists"
    DEAD_LETTER = "com.microsoft:dead-letter"
    NOT_FOUND = "amqp:not-found"
    NOT_ALLOWED = "amqp:not-allowed"
    NOT_IMPLEMENTED = "amqp:not-implemented"
    UNAUTHORIZED = "amqp:unauthorized-access"
    FULL = "amqp:resource-limit-exceeded"
    TOO_LARGE = "amqp:link:message-size-exceeded"
    DECODE = "amqp:decode-error"
    INTERNAL = "amqp:internal-error"
    FRAMING = "amqp:connection:framing-error"
    FRAME_SIZE = "amqp:frame-size-too-small"


_STATUS = {
    Condition.LOCK_LOST: 410,
    Condition.SESSION_LOCK_LOST: 410,
    Condition.MESSAGE_NOT_FOUND: 404,
    Condition.NOT_FOUND: 404,
    Condition.UNAUTHORIZED: 401,
    Condition.NOT_IMPLEMENTED: 501,
    Condition.FULL: 403,
    Condition.TIMEOUT: 408,
    Condition.SESSION_TAKEN: 409,
    Condition.EXISTS: 409,
}


class BrokerError(Exception):
    """A request that the broker refuses."""

    def __init__(self, condition: Condition, description: str) -> None:
        super().__init__(description)
        self.condition = condition
        self.description = description

    @property
    def status(self) -> int:
        """The status code of a `$management` answer."""
        return _STATUS.get(self.condition, 400)
