"""Send spans and metrics where a setting asks for it; without one, no SDK is imported.

`OTEL_EXPORTER_OTLP_ENDPOINT` names a collector (the standard variables of OpenTelemetry count), and
`KPAX_TRACES` a file that gets one JSON line per ended span, which is enough on one machine.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, override

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

OTLP = "OTEL_EXPORTER_OTLP_ENDPOINT"
FILE = "KPAX_TRACES"


def set_up_as_asked(env: Mapping[str, str] = os.environ) -> None:
    """Install the providers that the settings ask for, once per process."""
    if not env.get(OTLP) and not env.get(FILE):
        return
    from opentelemetry import metrics, trace  # noqa: PLC0415 — only what exports pays for it

    tracing = provider(env)
    trace.set_tracer_provider(tracing)
    if env.get(OTLP):
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import (  # noqa: PLC0415
            OTLPMetricExporter,
        )
        from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
        from opentelemetry.sdk.metrics.export import (  # noqa: PLC0415
            PeriodicExportingMetricReader,
        )

        reader = PeriodicExportingMetricReader(OTLPMetricExporter())
        metrics.set_meter_provider(MeterProvider(metric_readers=[reader]))


def provider(env: Mapping[str, str]) -> TracerProvider:
    """A tracer provider with the exporters of `env`, and ids of operations where they are asked."""
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import (  # noqa: PLC0415
        BatchSpanProcessor,
        SimpleSpanProcessor,
        SpanExporter,
        SpanExportResult,
    )
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator  # noqa: PLC0415

    from spaces.tracing import root_ids  # noqa: PLC0415

    class Ids(RandomIdGenerator):
        """The ids of the root that is being recorded, random ones otherwise."""

        @override
        def generate_trace_id(self) -> int:
            root = root_ids.get()
            return root[0] if root else super().generate_trace_id()

        @override
        def generate_span_id(self) -> int:
            root = root_ids.get()
            return root[1] if root else super().generate_span_id()

    class Lines(SpanExporter):
        """One JSON line per span, appended: several processes may write one file."""

        def __init__(self, path: Path) -> None:
            self._path = path

        @override
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            try:
                with self._path.open("a") as file:
                    file.write("".join(_line(span) for span in spans))
            except OSError:
                return SpanExportResult.FAILURE  # tracing never fails what it traces
            return SpanExportResult.SUCCESS

    made = TracerProvider(
        resource=Resource.create({"service.name": "kpax"}), id_generator=Ids()
    )
    if env.get(FILE):
        made.add_span_processor(SimpleSpanProcessor(Lines(Path(env[FILE]))))
    if env.get(OTLP):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )

        made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return made


def _line(span: ReadableSpan) -> str:
    return json.dumps(json.loads(span.to_json(indent=None)), separators=(",", ":")) + "\n"
