"""Sizes of virtual machines: what Azure gives, and what an instance gets on this machine.

Processors and memory of a size are Azure's published ones. The memory of a local instance is a
model: small enough for many spaces on a laptop, enforced all the same.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VmSize:
    """One size: its processors and memory on Azure, and the memory limit of its local stand-in."""

    name: str
    cpus: int
    memory_gib: int
    local_memory_mib: int


SIZES: dict[str, VmSize] = {
    size.name.lower(): size
    for size in (
        VmSize("Standard_B1ms", 1, 2, 128),
        VmSize("Standard_B2s", 2, 4, 160),
        VmSize("Standard_B2ms", 2, 8, 192),
        VmSize("Standard_D2s_v5", 2, 8, 192),
        VmSize("Standard_B4ms", 4, 16, 256),
        VmSize("Standard_D4s_v5", 4, 16, 256),
    )
}
