"""From a request as somebody sends it to the answer object: read, decide, explain.

This is the room's public function. It needs no service: the clock is read here when no day is
given, and the tables are loaded at the first call.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Literal, NoReturn

from geo_router import decide, explain, reading, tables
from geo_router.model import NO_EVIDENCE, Decision, Evidence, Refusal, Request
from spaces.errors import FieldError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from geo_router.tables import Tables

Metric = Literal["rtt", "distance"]
STATES = ("open", "full", "draining", "closed", "degraded")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A settled request: the answer, and what signing and storing need."""

    answer: dict[str, object]
    form: dict[str, object] | None
    """The canonical request; None where it could not be read."""
    may_sign: bool


def route(
    request: dict[str, object],
    *,
    as_of: str | date | None = None,
    metric: Metric = "rtt",
    placement: Mapping[str, str] | None = None,
) -> dict[str, object]:
    """The answer object for a request, for bad input too; unsigned (`token` is None).

    `as_of` may stand in the request instead; `placement` replaces the state of the clusters named
    in it ({cluster: open | full | draining | closed | degraded}).
    """
    today = datetime.now(UTC).date().isoformat()
    return settle(
        tables.load(), request, today=today, as_of=as_of, metric=metric, placement=placement
    ).answer


def settle(
    rules: Tables,
    raw: object,
    *,
    today: str,
    as_of: str | date | None = None,
    metric: str = "rtt",
    placement: Mapping[str, str] | None = None,
    evidence: Evidence = NO_EVIDENCE,
) -> Settled:
    """Read, decide and explain; `today` is the day of the question.

    `evidence` of the network counts for this answer only: the canonical request, which is signed,
    stored and decided again, is what was asked.
    """
    try:
        request, asked_day = reading.read(rules, raw)
        day = _day(asked_day, as_of)
        states = states_of(rules, placement)
        if metric not in ("rtt", "distance"):
            _refuse("/metric", f"rtt or distance is needed, not {reading.echo(metric)}")
    except reading.BadRequestError as bad:
        answer = explain.bad_input(rules, bad.refusal, bad.errors, today=today)
        return Settled(answer=answer, form=None, may_sign=False)
    on = day or today
    form = reading.canonical(rules, request, None if on == today else on)
    request, seen = _with_evidence(rules, request, evidence)
    verdict = decide.decide(
        rules, request, today=on, open_now=mask_of(states, "open"), metric=metric
    )
    unsigned = _unsigned(rules, request, on, today)
    answer = explain.answer(
        rules,
        request,
        verdict,
        today=on,
        request_hash=reading.request_hash(form),
        degraded=mask_of(states, "degraded"),
        unsigned=unsigned,
        ip_evidence=seen,
    )
    return Settled(
        answer=answer,
        form=form,
        may_sign=verdict.decision is Decision.ALLOWED and not unsigned,
    )


def _with_evidence(
    rules: Tables, request: Request, evidence: Evidence
) -> tuple[Request, dict[str, str | None]]:
    """The request with the network's country as it counts, and what the answer tells of it."""
    known = evidence.country if evidence.country in rules.countries else None
    if known is not None and (request.network is None or evidence.outranks):
        return replace(request, network=known), {"country": known, "source": "address"}
    if request.network is not None:
        return request, {"country": request.network, "source": "request"}
    return request, {"country": None, "source": evidence.source}


def _unsigned(rules: Tables, request: Request, on: str, today: str) -> list[str]:
    """Why an answer is a preview only: it rests on another day, or on what nobody has proved."""
    reasons = {
        "unsigned-as-of": on != today,
        "unsigned-measured-rtt": bool(request.measured),
        "unsigned-vendor-assertion": request.asserted and _is_unproved(rules, request, on),
    }
    return [name for name, holds in reasons.items() if holds]


def _is_unproved(rules: Tables, request: Request, on: str) -> bool:
    """Whether something is asserted that only we or a contract can make true, and nobody has shown."""
    proved = rules.default_conditions | sum(
        {fact for since, fact in rules.fact_dates if on >= since}
    )
    said = rules.conditions_of(request.asserted & ~proved)
    return any(condition.holder != "customer" for condition in said)


def _day(asked: str | None, argument: str | date | None) -> str | None:
    if argument is None:
        return asked
    day = (
        argument.isoformat()[:10] if isinstance(argument, date) else reading.read_date(argument)
    )
    if day is None:
        _refuse("/as_of", f"a date as YYYY-MM-DD is needed, not {reading.echo(argument)}")
    if asked is not None and asked != day:
        _refuse("/as_of", f"two different days: {asked} in the request, {day} beside it")
    return day


def states_of(rules: Tables, placement: Mapping[str, str] | None = None) -> list[str]:
    """The state of each cluster: that of the tables, or the one given."""
    states = [cluster.state for cluster in rules.clusters]
    for name, state in (placement or {}).items():
        number = rules.cluster_numbers.get(str(name).strip().lower())
        if number is None:
            _refuse("/placement", f"there is no cluster {reading.echo(name)}")
        if state not in STATES:
            _refuse("/placement", f"{reading.echo(state)} is none of {', '.join(STATES)}")
        states[number] = state
    return states


def mask_of(states: list[str], wanted: str) -> int:
    """The clusters in a state."""
    return sum(1 << at for at, state in enumerate(states) if state == wanted)


def _refuse(pointer: str, message: str) -> NoReturn:
    wrong = FieldError(pointer=pointer, code="argument", message=message)
    raise reading.BadRequestError(Refusal.INVALID_INPUT, (wrong,))
