"""The doors to the world, as few methods as the callers use.

Every adapter in `spaces/adapters/` and every fake in `tests/fakes/` implements one of these
protocols, and one conformance suite runs on both. Each method says what may be repeated and which
errors of `spaces.errors` it raises; anything else that a library raises is a defect of the adapter.
"""

from __future__ import annotations

from spaces.ports.arm import (
    Arm,
    Difference,
    Foresight,
    Instance,
    Part,
    PartKind,
    Power,
    Stack,
    StackRequest,
    StackState,
)
from spaces.ports.billing import Billing, Subscription, SubscriptionPage
from spaces.ports.blobs import Accounts, BlobInfo, Blobs
from spaces.ports.bus import Bus, Message, QueueDepth, Waiting
from spaces.ports.chance import Clock, Ids
from spaces.ports.data import Answer, Databases, Edge, Keys, Secrets, Server
from spaces.ports.tables import (
    MOST_WRITES,
    Delete,
    Insert,
    Put,
    Replace,
    Scalar,
    Stored,
    Tables,
    Write,
    check_writes,
    instant,
)
from spaces.ports.together import Ports

__all__ = [
    "MOST_WRITES",
    "Accounts",
    "Answer",
    "Arm",
    "Billing",
    "BlobInfo",
    "Blobs",
    "Bus",
    "Clock",
    "Databases",
    "Delete",
    "Difference",
    "Edge",
    "Foresight",
    "Ids",
    "Insert",
    "Instance",
    "Keys",
    "Message",
    "Part",
    "PartKind",
    "Ports",
    "Power",
    "Put",
    "QueueDepth",
    "Replace",
    "Scalar",
    "Secrets",
    "Server",
    "Stack",
    "StackRequest",
    "StackState",
    "Stored",
    "Subscription",
    "SubscriptionPage",
    "Tables",
    "Waiting",
    "Write",
    "check_writes",
    "instant",
]
