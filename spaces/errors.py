"""The one hierarchy of errors.

    KpaxError
    ├── InvalidError       the caller's input is wrong                    exit 2, HTTP 400
    ├── NotFoundError      no such thing                                  exit 2, HTTP 404
    ├── RefusedError       law, policy, right or state says no            exit 3, HTTP 409 or as given
    ├── ConflictError      an insert found the row there already          409
    ├── LostRaceError      a conditional write found another version      412
    ├── ThrottledError     asked to come back later                       retry after `retry_after_s`
    ├── TransientError     may work when tried again; nothing was done, or repeating is safe
    ├── UnknownError       the answer was lost: look before you act       exit 4
    ├── UnreachableError   a part does not answer                         exit 6, HTTP 503
    ├── DamagedError       stored data is not what it was                 exit 7
    └── WrongKeyError      the key does not open this data                exit 8

Every message says what happened; `where` names space, step and cluster; `remedy` says what to do.
A class exists because somebody catches it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import ClassVar


class Exit(IntEnum):
    """Exit codes of every command."""

    DONE = 0
    FAILED = 1
    BAD_INPUT = 2
    REFUSED = 3
    QUEUED = 4
    NEEDS_PERSON = 5
    UNREACHABLE = 6
    DAMAGED = 7
    WRONG_KEY = 8


class ErrorKind(StrEnum):
    """Decides alone whether the runner tries again."""

    THROTTLED = "throttled"
    TRANSIENT = "transient"
    CONFLICT = "conflict"
    QUOTA = "quota"
    DENIED = "denied"
    INVALID = "invalid"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldError:
    """One wrong field: where it stands in the input (JSON pointer), a slug, and what to do."""

    pointer: str
    code: str
    message: str


class KpaxError(Exception):
    """Base of all errors: `what` happened, `where`, and the `remedy`.

    `slug` names the problem type on the wire, `status` its HTTP status, `exit` the command's code.
    """

    slug: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    exit: ClassVar[Exit] = Exit.FAILED
    kind: ClassVar[ErrorKind] = ErrorKind.UNKNOWN

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        remedy: str = "",
        slug: str | None = None,
        status: int | None = None,
        errors: tuple[FieldError, ...] = (),
        members: dict[str, object] | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.remedy = remedy
        self.problem_slug = slug or type(self).slug
        self.problem_status = status or type(self).status
        self.errors = errors
        self.members: dict[str, object] = members or {}

    def __str__(self) -> str:
        """One line for a terminal: what (where). What to do."""
        place = f" ({self.where})" if self.where else ""
        advice = f" {self.remedy}" if self.remedy else ""
        return (
            f"{self.what}{place}.{advice}"
            if not self.what.endswith(".")
            else (f"{self.what}{place}{advice}")
        )


class InvalidError(KpaxError):
    """The input is wrong; nothing was done and nothing is lost."""

    slug = "validation-failed"
    status = 400
    exit = Exit.BAD_INPUT
    kind = ErrorKind.INVALID


class NotFoundError(KpaxError):
    """No such thing, as far as this caller may know."""

    slug = "not-found"
    status = 404
    exit = Exit.BAD_INPUT
    kind = ErrorKind.INVALID


class RefusedError(KpaxError):
    """Law, policy, right or present state forbids it."""

    slug = "transition-not-allowed"
    status = 409
    exit = Exit.REFUSED
    kind = ErrorKind.DENIED


class DeniedError(KpaxError):
    """The credential is missing or not good for this."""

    slug = "unauthenticated"
    status = 401
    exit = Exit.REFUSED
    kind = ErrorKind.DENIED


class ConflictError(KpaxError):
    """An insert found the row there already; no row of the transaction was applied."""

    slug = "conflict"
    status = 409
    exit = Exit.REFUSED
    kind = ErrorKind.CONFLICT


class LostRaceError(KpaxError):
    """A conditional write found another version; no row of the transaction was applied."""

    slug = "precondition-failed"
    status = 412
    exit = Exit.REFUSED
    kind = ErrorKind.CONFLICT


class ThrottledError(KpaxError):
    """The service asks to come back after `retry_after_s` seconds."""

    slug = "rate-limited"
    status = 429
    exit = Exit.QUEUED
    kind = ErrorKind.THROTTLED

    def __init__(self, what: str, *, retry_after_s: float, where: str = "") -> None:
        super().__init__(what, where=where, members={"retry_after_s": retry_after_s})
        self.retry_after_s = retry_after_s


class TransientError(KpaxError):
    """May work when tried again."""

    slug = "dependency-unavailable"
    status = 503
    exit = Exit.UNREACHABLE
    kind = ErrorKind.TRANSIENT


class QuotaError(KpaxError):
    """A limit of the platform or of a plan is reached; a person must raise it."""

    slug = "no-capacity"
    status = 409
    exit = Exit.NEEDS_PERSON
    kind = ErrorKind.QUOTA


class UnknownError(KpaxError):
    """The call may or may not have had its effect: read by name before acting."""

    slug = "unknown-outcome"
    status = 503
    exit = Exit.QUEUED
    kind = ErrorKind.UNKNOWN


class UnreachableError(KpaxError):
    """A part that must answer does not."""

    slug = "dependency-unavailable"
    status = 503
    exit = Exit.UNREACHABLE
    kind = ErrorKind.TRANSIENT


class DamagedError(KpaxError):
    """Stored data is not what was written; the message names the object."""

    slug = "damaged"
    status = 500
    exit = Exit.DAMAGED
    kind = ErrorKind.INVALID


class WrongKeyError(KpaxError):
    """The key does not open this data."""

    slug = "wrong-key"
    status = 500
    exit = Exit.WRONG_KEY
    kind = ErrorKind.DENIED
