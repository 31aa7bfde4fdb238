"""Write SUPPORTED.md from the registries: `python -m local.resource_manager.supported [--check]`."""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path

from local.resource_manager.functions import FUNCTIONS, Function
from local.resource_manager.providers import PROVIDERS
from local.resource_manager.sizes import SIZES

PAGE = Path(__file__).parent / "SUPPORTED.md"
_CHAPTERS = {
    "arithmetic": "Numbers",
    "arrays": "Arrays and objects",
    "cidr": "Address ranges",
    "dates": "Time",
    "lambdas": "Lambdas",
    "logic": "Truth and comparison",
    "places": "Deployment and resources",
    "strings": "Strings",
}
_MISSING = {
    "external, getSecret": "read other systems while a parameter file is compiled, not a template",
    "providers": "withdrawn by the service",
    "managementGroup, managementGroupResourceId": "there is one subscription and nothing above it",
    "toLogicalZone(s), toPhysicalZone(s)": "one machine has no physical zones to tell apart",
    "externalInput": "given by deployment tools, which resolve it before they call",
    "date formats beyond the common ones": "left as they are",
}


def page() -> str:
    """The page as it should be."""
    lines = [
        "# What the local Resource Manager supports",
        "",
        "Made from the registries by `python -m local.resource_manager.supported`.",
        "Whatever is not listed here is refused as invalid before anything is made.",
        "",
        "## Resource types",
        "",
        "`Microsoft.Resources/resourceGroups` and `Microsoft.Resources/deployments` (nested, inner",
        "and outer scope; by value, or by the id of a template spec's version), and:",
        "",
        "| type | becomes on this machine |",
        "|---|---|",
    ]
    lines += [f"| `{one.type}` | {one.summary} |" for one in PROVIDERS.values()]
    lines += [
        "",
        "API versions are those of the service, per type (`providers/versions.py`); another one",
        "is refused. They are answered alike: a property of a newer version is taken by an older.",
        "",
        "## Sizes of virtual machines",
        "",
        "| size | on Azure | memory limit of an instance here |",
        "|---|---|---|",
    ]
    lines += [
        f"| `{one.name}` | {one.cpus} vCPU, {one.memory_gib} GiB | {one.local_memory_mib} MiB |"
        for one in SIZES.values()
    ]
    lines += ["", "## Template functions", ""]
    ordered = sorted(
        FUNCTIONS.values(), key=lambda one: (_CHAPTERS[one.group], one.name.lower())
    )
    for chapter, members in groupby(ordered, key=lambda one: _CHAPTERS[one.group]):
        lines.append(f"- **{chapter}**: " + ", ".join(_signature(one) for one in members))
    lines += ["", "Not supported, and why:", ""]
    lines += [f"- {names}: {reason}." for names, reason in _MISSING.items()]
    return "\n".join(lines) + "\n"


def _signature(function: Function) -> str:
    most = "…" if function.most is None else str(function.most)
    count = most if str(function.least) == most else f"{function.least}-{most}"
    return f"`{function.name}`({count})"


def main(arguments: list[str]) -> int:
    """Write the page, or with `--check` say whether it is current."""
    if "--check" in arguments:
        current = PAGE.exists() and PAGE.read_text() == page()
        if not current:
            sys.stderr.write(f"{PAGE} is stale: python -m local.resource_manager.supported\n")
        return 0 if current else 1
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
