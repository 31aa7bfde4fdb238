"""How the progress of a start looks: a line per part, and a turning wheel on a terminal."""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Sequence

_WHEEL = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_GREEN, _YELLOW, _DIM, _PLAIN = "\033[32m", "\033[33m", "\033[2m", "\033[0m"


class Lines:
    """Writes to stderr: data has stdout for itself. Colours and the wheel only on a terminal."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._colours = self._terminal and "NO_COLOR" not in os.environ
        self._began = time.monotonic()
        self._turn = 0

    def waiting(self, names: Sequence[str]) -> None:
        """Turn the wheel; silent where nobody looks."""
        if not self._terminal or not names:
            return
        self._turn += 1
        text = f"{_WHEEL[self._turn % len(_WHEEL)]} {', '.join(names)}"
        width = shutil.get_terminal_size().columns - 10
        took = f"{time.monotonic() - self._began:4.1f} s"
        self._stream.write(f"\r\033[K{text[:width]}  {self._paint(_DIM, took)}")
        self._stream.flush()

    def done(self, name: str, took_s: float) -> None:
        """One line that stays."""
        self._line(f"{self._paint(_GREEN, '✓')} {name:<18}{took_s:5.1f} s")

    def remark(self, text: str) -> None:
        """Something to know, in the colour of a warning."""
        self._line(f"{self._paint(_YELLOW, '!')} {text}")

    def clear(self) -> None:
        """Take the wheel away."""
        if self._terminal:
            self._stream.write("\r\033[K")
            self._stream.flush()

    def _line(self, text: str) -> None:
        self.clear()
        self._stream.write(text + "\n")
        self._stream.flush()

    def _paint(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_PLAIN}" if self._colours else text
