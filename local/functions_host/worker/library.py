"""Loads an app and calls its functions through the real worker library, in this process.

The library keeps the app in module globals, so a process can hold one app, once: to load it anew
the host replaces its process (`host.py`). `function_environment_reload_request` is never used, it
empties `os.environ`.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import azure_functions_runtime as runtime

from local.errors import StackError
from local.functions_host.worker import protos
from local.functions_host.worker.blame import blamed
from local.functions_host.worker.protos import TypedData

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger("functions_host.worker")

# Set by the library inside the thread of a synchronous function.
thread_invocation_id = runtime.invocation_id_cv


@dataclass(frozen=True, slots=True)
class Indexed:
    """One function as the library indexed it."""

    name: str
    id: str
    raw_bindings: tuple[str, ...]
    retry_options: Any = None


@dataclass(frozen=True, slots=True)
class Result:
    """How a call ended: `value` of a good one, `error` and `trace` of a failed one."""

    ok: bool
    value: TypedData | None = None
    error: str = ""
    trace: str = ""
    outputs: Mapping[str, TypedData] = field(default_factory=dict)
    """What was set on arguments of output bindings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """Which retry a call is: 0 is the first call; `failure` that of the call before."""

    retry: int
    max_count: int
    failure: Result | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Everything the library is told about one call."""

    invocation_id: str
    function_id: str
    parameter: str
    data: TypedData
    metadata: Mapping[str, TypedData]
    trace_parent: str
    trace_state: str = ""
    attempt: Attempt | None = None


async def load(app: Path) -> list[Indexed]:
    """Import `function_app.py` of the folder and index it; changes the working directory to it.

    Raises:
        StackError: the file is missing or cannot be imported or indexed; the trace is in the log.
    """
    if not (app / "function_app.py").is_file():
        raise StackError(f"{app} has no function_app.py.")
    if str(app) not in sys.path:
        sys.path.insert(0, str(app))
    os.chdir(app)
    runtime.start_threadpool_executor()
    try:
        started = await runtime.worker_init_request(
            _wrapped(
                worker_init_request=SimpleNamespace(
                    capabilities={}, function_app_directory=str(app)
                )
            )
        )
    except SystemExit as error:
        raise StackError(
            f"function_app.py cannot be loaded: it ends the process (SystemExit: {error.code})."
        ) from error
    if started.result.status != protos.StatusResult.Success:
        failure = started.result.exception
        log.error("app.not_loaded", extra={"trace": failure.stack_trace})
        what = blamed(failure.message, failure.stack_trace, app)
        raise StackError(f"function_app.py cannot be loaded: {what}.")
    answer = await runtime.functions_metadata_request(_wrapped(functions_metadata_request=None))
    return [
        Indexed(one.name, one.function_id, tuple(one.raw_bindings), one.retry_options)
        for one in answer.function_metadata_results or ()
    ]


async def call(what: Call) -> Result:
    """Run one function to its end; what it raises comes back in the result."""
    answer = await runtime.invocation_request(
        _wrapped(
            invocation_request=SimpleNamespace(
                invocation_id=what.invocation_id,
                function_id=what.function_id,
                input_data=[protos.ParameterBinding(name=what.parameter, data=what.data)],
                trigger_metadata=dict(what.metadata),
                trace_context=SimpleNamespace(
                    trace_parent=what.trace_parent, trace_state=what.trace_state, attributes={}
                ),
                retry_context=_retry_context(what.attempt),
            )
        )
    )
    if answer.result.status == protos.StatusResult.Success:
        outputs = {one.name: one.data for one in answer.output_data or ()}
        return Result(ok=True, value=answer.return_value, outputs=outputs)
    failure = answer.result.exception
    return Result(ok=False, error=failure.message, trace=failure.stack_trace)


def _retry_context(attempt: Attempt | None) -> SimpleNamespace:
    if attempt is None:
        return SimpleNamespace(retry_count=0, max_retry_count=0, exception=None)
    failure = attempt.failure
    exception = failure and protos.RpcException(
        source="", message=failure.error, stack_trace=failure.trace
    )
    return SimpleNamespace(
        retry_count=attempt.retry, max_retry_count=attempt.max_count, exception=exception
    )


def _wrapped(**request: Any) -> SimpleNamespace:  # noqa: ANN401 — the shape the library expects
    return SimpleNamespace(
        request=SimpleNamespace(**request), properties={"protos": protos, "host": "127.0.0.1"}
    )
