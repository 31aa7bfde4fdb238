"""Draw docs/lifecycle.md from the matrix of the code. `--check` compares and writes nothing."""

from __future__ import annotations

import sys
from pathlib import Path

from spaces.lifecycle import MATRIX, QUARANTINE_ALLOWS, Transition
from spaces.model import OpKind, Status
from spaces.saga.outline import OUTLINES

PAGE = Path(__file__).resolve().parent.parent / "docs" / "lifecycle.md"


_HEAD = """\
# The life of a space

Drawn from `spaces/lifecycle.py` and `spaces/saga/outline.py` by `python -m scripts.lifecycle`;
change those, not this page.

## Which operation may start from which status
Each cell says where a success leads. An empty one is refused with the reason: exit 3, HTTP 409.
"""

_BESIDE = """
Beside the status: one operation at a time, and one that waits for an operator keeps its space's
slot; nothing starts while the space, its cluster or the fleet is paused; in quarantine only {} may
start.

## What each operation does, step by step
A failed step is undone with all before it, backwards; ↩ marks what has something to undo. The time
is what a step has before it counts as failed. In brackets: the only statuses in which an operation
that starts has the step.
"""


def page() -> str:
    """The whole page."""
    beside = _BESIDE.format(_listed(QUARANTINE_ALLOWS))
    return "\n".join([_HEAD, *_matrix(), "", *_guards(), beside, *_steps(), ""])


def _matrix() -> list[str]:
    statuses = list(Status)
    head = "| operation | " + " | ".join(statuses) + " | after a failure |"
    rule = "|---|" + "---|" * (len(statuses) + 1)
    return [head, rule, *(_row(kind, MATRIX[kind], statuses) for kind in OpKind)]


def _row(kind: OpKind, rule: Transition, statuses: list[Status]) -> str:
    cells = [_cell(rule, status) for status in statuses]
    after = rule.failure.value if rule.failure is not None else "as before"
    return f"| **{kind}** | " + " | ".join(cells) + f" | {after} |"


def _cell(rule: Transition, status: Status) -> str:
    if status not in rule.start:
        return ""
    target = (rule.success or status).value
    return f"{target}{' *' if rule.guards.get(status) else ''}"


def _guards() -> list[str]:
    lines = ["\\* Only under conditions:"]
    for kind in OpKind:
        told: dict[str, list[str]] = {}
        for status in Status:
            words = "; ".join(guard.words for guard in MATRIX[kind].guards.get(status, ()))
            if words:
                told.setdefault(words, []).append(status.value)
        lines += [f"- {kind} from {', '.join(where)}: {words}" for words, where in told.items()]
    return lines


def _steps() -> list[str]:
    lines = ["| operation | steps |", "|---|---|"]
    for kind in OpKind:
        steps = [
            f"{stage.name} ({_time(stage.budget_s)}{', ↩' if stage.undo else ''})"
            + (f" [{_listed(stage.when)}]" if stage.when is not None else "")
            for stage in OUTLINES[kind].steps
        ]
        lines.append(f"| **{kind}** | {' → '.join(steps)} |")
    return lines


def _listed(values: frozenset[Status] | frozenset[OpKind]) -> str:
    return ", ".join(sorted(values))


def _time(seconds: float) -> str:
    return f"{seconds / 60:.0f} min"


def main(arguments: list[str]) -> int:
    """Write the page, or say that it is old."""
    text = page()
    if "--check" not in arguments:
        PAGE.write_text(text)
        return 0
    if PAGE.exists() and PAGE.read_text() == text:
        return 0
    sys.stderr.write("docs/lifecycle.md is old: run python -m scripts.lifecycle\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
