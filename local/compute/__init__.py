"""Scale sets on one machine: an instance is a process of the space app, with its own limits."""

from local.compute.sets import Compute, ComputeError
from local.compute.types import Instance, ScaleSet

__all__ = ["Compute", "ComputeError", "Instance", "ScaleSet"]
