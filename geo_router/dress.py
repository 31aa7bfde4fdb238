"""The answer object for people: as text. One explanation, several dresses; nothing is decided here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def text(answer: Mapping[str, Any], *, whole: bool = False) -> str:
    """The answer for a terminal: what was decided, or with `whole` everything that led to it."""
    lines = [answer["summary"], *_place(answer), *_warnings(answer)]
    if whole:
        lines += [*_ranked(answer), *_excluded(answer), *_rules(answer), *_beside(answer)]
    elif answer["refusal"] == "condition-required":
        lines += _excluded(answer)
    lines.append(answer["disclaimer"])
    return "\n".join(lines)


def _place(answer: Mapping[str, Any]) -> Iterator[str]:
    if answer["decision"] == "queued":
        yield f"waits for: {answer['ranked'][0]['cluster']}"
    if answer["cluster"] is None:
        return
    yield f"cluster: {answer['cluster']} ({answer['azure_region']})"
    yield f"backups: {answer['backup']['azure_region']}, {_backup(answer['backup'])}"
    if answer["token"] is not None:
        yield f"token, good until {answer['expires_at']}: {answer['token']}"


def _backup(backup: Mapping[str, Any]) -> str:
    return "in the same country" if backup["same_country"] else "in another country"


def _warnings(answer: Mapping[str, Any]) -> Iterator[str]:
    if answer["warnings"]:
        yield f"warnings: {', '.join(answer['warnings'])}"


def _ranked(answer: Mapping[str, Any]) -> Iterator[str]:
    if answer["ranked"]:
        yield "clusters, in the order of choice:"
    for entry in answer["ranked"]:
        yield (
            f"  {entry['cluster']:<14} {entry['rtt_ms']:>4} ms {entry['km']:>6} km"
            f"  {', '.join(entry['why'])}"
        )


def _excluded(answer: Mapping[str, Any]) -> Iterator[str]:
    if answer["excluded"]:
        yield "not these:"
    for entry in answer["excluded"]:
        needs = " or ".join(" and ".join(together) for together in entry["missing"] or ())
        opens = f"; opens with {needs}" if needs else ""
        yield f"  {entry['cluster']:<14} by {entry['by']}{opens}"


def _rules(answer: Mapping[str, Any]) -> Iterator[str]:
    for rule in answer["rules"]:
        review = ", not yet reviewed by a lawyer" if rule["needs_legal_review"] else ""
        yield f"rule {rule['id']} ({rule['role']}: {', '.join(rule['countries'])}): {rule['title']}"
        yield f"  {rule['why']}"
        yield (
            f"  {rule['basis']}, {rule['strength']}, {rule['confidence']} confidence, "
            f"{rule['evidence']}{review}"
        )
        for citation, source in zip(rule["citations"], rule["sources"], strict=True):
            yield f"  - {citation}: {source}"


def _beside(answer: Mapping[str, Any]) -> Iterator[str]:
    for duty in answer["obligations"]:
        yield f"look after: {duty['text']}"
    for said in answer["assertions"]:
        yield f"declared ({said['holder']}): {said['text']}"
    network = answer["ip_evidence"]
    if network["country"] is not None:
        yield f"network: {network['country']}, by the {network['source']}"
    data = answer["data"]
    yield f"rules {data['version']} as of {answer['as_of']}, {data['hash']}"
