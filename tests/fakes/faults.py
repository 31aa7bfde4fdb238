"""What a fake has in common with a bad day: errors on demand, and a list of the calls it got."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class _Fault:
    call: str
    error: BaseException
    after: bool
    times: int


class Faults:
    """Planned errors of one fake, and the names of the calls made so far, in order."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._planned: list[_Fault] = []

    def plan(
        self, call: str, error: BaseException, *, after: bool = False, times: int = 1
    ) -> None:
        """Let the next `times` calls of this name fail: before their effect, or after it."""
        self._planned.append(_Fault(call, error, after, times))

    def before(self, call: str) -> None:
        """The call begins."""
        self.calls.append(call)
        self._raise(call, after=False)

    def after(self, call: str) -> None:
        """The call has had its effect, and its answer may be lost."""
        self._raise(call, after=True)

    def _raise(self, call: str, *, after: bool) -> None:
        for fault in self._planned:
            if fault.call == call and fault.after is after and fault.times > 0:
                fault.times -= 1
                raise fault.error
