"""What functions put out by a Service Bus output binding: read from bindings, sent as messages.

A text goes out as UTF-8 with the content type `text/plain`, bytes as `application/octet-stream`.
It is sent when the function has ended well, before its trigger's message is completed: a message
that cannot be sent fails the invocation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local.functions_host.queues.port import BusError
from local.functions_host.settings import connection_string, resolved
from local.functions_host.worker.library import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from local.functions_host.queues.port import Bus
    from local.functions_host.worker.protos import TypedData

RETURN = "$return"


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One output: the argument it is set on, or `$return`, and where it goes."""

    parameter: str
    entity: str
    is_topic: bool
    connection: str


def read_output(
    binding: Mapping[str, Any], environ: Mapping[str, str], *, where: str
) -> Output | None:
    """The output of a binding; None when it is none that is served.

    Raises:
        StackError: a setting that it names is missing.
    """
    out = str(binding.get("direction", "")).upper() in ("OUT", "1")
    name = binding.get("topicName") or binding.get("queueName")
    if str(binding["type"]).lower() != "servicebus" or not out or not name:
        return None
    connection = resolved(str(binding.get("connection") or "ServiceBus"), environ, where=where)
    return Output(
        parameter=str(binding["name"]),
        entity=resolved(str(name), environ, where=where),
        is_topic=bool(binding.get("topicName")),
        connection=connection_string(connection, environ, where=where),
    )


async def sent(
    result: Result, outputs: Sequence[Output], bus_of: Callable[[str], Bus]
) -> Result:
    """The result of a call, a failed one when something it put out could not be sent."""
    for output in outputs:
        value = result.value if output.parameter == RETURN else None
        value = result.outputs.get(output.parameter, value)
        body = _body(value)
        if body is None:
            continue
        try:
            await bus_of(output.connection).send(
                output.entity, body[0], content_type=body[1], is_topic=output.is_topic
            )
        except BusError as error:
            text = f"{output.parameter} could not be sent to {output.entity}: {error}"
            return Result(ok=False, error=f"OutputError: {text}")
    return result


def _body(value: TypedData | None) -> tuple[bytes, str] | None:
    kind = value.WhichOneof("data") if value is not None else None
    match kind:
        case "string":
            return str(getattr(value, "string")).encode(), "text/plain"  # noqa: B009 — a bag of attributes
        case "json":
            return str(getattr(value, "json")).encode(), "application/json"  # noqa: B009 — see above
        case "bytes":
            return bytes(getattr(value, "bytes")), "application/octet-stream"  # noqa: B009 — see above
        case _:
            return None
