"""Plain stand-ins for the message classes that the worker library was written against.

On Azure they come from gRPC; the library only reads attributes and asks `WhichOneof`, so neither
grpc nor protobuf is loaded. A name that was never set must raise AttributeError: the library
probes values that way.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar


class _Message:
    """An attribute bag with at most one set member per group."""

    groups: ClassVar[dict[str, tuple[str, ...]]] = {}

    def __init__(self, **fields: Any) -> None:  # noqa: ANN401 — whatever the library puts in
        self.__dict__.update(fields)

    def WhichOneof(self, group: str) -> str | None:  # noqa: N802 — the name protobuf gave it
        """The set member of the group, or None."""
        return next((name for name in self.groups[group] if name in self.__dict__), None)


class TypedData(_Message):
    """One value on its way into or out of a function."""

    http: RpcHttp  # no value: read after asking WhichOneof

    groups: ClassVar = {
        "data": (
            "string",
            "json",
            "bytes",
            "http",
            "int",
            "double",
            "collection_bytes",
            "collection_string",
            "collection_sint64",
            "model_binding_data",
        )
    }


class CollectionBytes(_Message):
    """bytes: a list."""


class CollectionString(_Message):
    """string: a list."""


class CollectionSInt64(_Message):
    """sint64: a list."""


class ParameterBinding(_Message):
    """A named value: an argument or an output."""

    groups: ClassVar = {"rpc_data": ("data",)}


class RpcHttp(_Message):
    """A request or a response; declared is what a response has."""

    status_code: str
    headers: dict[str, str]
    body: TypedData | None
    cookies: list[RpcHttpCookie] | None


class RpcHttpCookie(_Message):
    """One Set-Cookie of a response."""

    SameSite = SimpleNamespace(**{"None": 0, "Lax": 1, "Strict": 2, "ExplicitNone": 3})


class StatusResult(_Message):
    """How a call ended."""

    Failure = 0
    Success = 1


class BindingInfo(_Message):
    """Direction and type of a binding."""

    undefined = 0
    out = 1
    inout = 2


setattr(BindingInfo, "in", 0)


class RpcException(_Message):
    """message, stack_trace."""


class RpcRetryOptions(_Message):
    """A retry policy."""


class RpcFunctionMetadata(_Message):
    """One indexed function."""


class WorkerMetadata(_Message):
    """Versions of the worker."""


class WorkerInitResponse(_Message):
    """Answer to the start of the worker."""


class FunctionMetadataResponse(_Message):
    """Answer to the question for functions."""


class InvocationResponse(_Message):
    """Answer to a call."""


class NullableString(_Message):
    """value."""


class NullableBool(_Message):
    """value."""


class NullableDouble(_Message):
    """value."""


class NullableTimestamp(_Message):
    """value."""


class Timestamp(_Message):
    """seconds."""
