"""Write what is generated from code into docs/: the OpenAPI document, the schemas of messages.

`--check` writes nothing and fails when a file is not what the code gives.
Example: python -m scripts.schemas --check
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import msgspec

import function_app  # noqa: F401 - importing it declares every endpoint
from spaces import messages
from spaces.http import OPERATIONS
from spaces.openapi import document

DOCS = Path(__file__).resolve().parent.parent / "docs"
MESSAGES = {
    "billing-event.json": messages.BillingEvent,
    "billing-list.json": messages.SubscriptionList,
    "poke.json": messages.Poke,
    "run-request.json": messages.RunRequest,
}


def generated() -> dict[Path, str]:
    """Every generated file with its text."""
    files = {DOCS / "openapi.json": document(OPERATIONS)}
    for name, kind in MESSAGES.items():
        files[DOCS / "contracts" / name] = msgspec.json.schema(kind)
    return {path: json.dumps(value, indent=1) + "\n" for path, value in files.items()}


def main() -> int:
    """Write the files, or compare them."""
    parser = argparse.ArgumentParser(prog="python -m scripts.schemas", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    stale: list[str] = []
    for path, text in generated().items():
        if path.exists() and path.read_text() == text:
            continue
        stale.append(path.name)
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if stale:
        verb = "stale, run make schemas" if check else "written"
        sys.stderr.write(f"{verb}: {', '.join(stale)}\n")
    return 1 if check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
