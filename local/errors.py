"""What goes wrong on the machine under the stack: one error, with what to do about it.

The product has its own tree in `spaces.errors`; the local stack must not import it.
"""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """Exit codes of the commands that steer the stack; the same table as everywhere."""

    DONE = 0
    FAILED = 1
    BAD_INPUT = 2
    UNREACHABLE = 6


class StackError(Exception):
    """A part of the stack cannot do its work: what happened, and the remedy."""

    def __init__(self, what: str, *, remedy: str = "", code: Code = Code.FAILED) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy
        self.code = code

    def __str__(self) -> str:
        """One text for a terminal: what. What to do."""
        return f"{self.what} {self.remedy}".strip()
