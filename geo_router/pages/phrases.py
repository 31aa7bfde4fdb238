"""Names of the answer's closed sets as a person says them. A name without words is shown itself."""

from __future__ import annotations

from geo_router.model import Decision, Refusal, Role

DECISIONS = {
    Decision.ALLOWED: ("✓", "Allowed"),
    Decision.REFUSED: ("✕", "Refused"),
    Decision.QUEUED: ("◐", "Queued"),
    Decision.NEEDS_REVIEW: ("!", "A person must look"),
}
"""A shape and a word: the outcome is never told by colour alone."""

REFUSALS = {
    Refusal.SANCTIONS: "sanctions",
    Refusal.LOCALISATION: "the data must stay in their country",
    Refusal.CONDITION_REQUIRED: "a named condition must hold first",
    Refusal.RESIDENCY_CONFLICT: "the rules leave no cluster in common",
    Refusal.CERTIFICATION_UNAVAILABLE: "no allowed cluster carries every certification asked for",
    Refusal.REQUIREMENT_CONFLICT: "the wishes leave no cluster that the rules open",
    Refusal.NO_HOME_CLUSTER: "only the home cluster was asked for, and it is not among the allowed",
    Refusal.NO_CAPACITY: "the cluster takes no new spaces now",
    Refusal.LOCATION_CONFLICT: "the evidence of the place contradicts what was declared",
    Refusal.UNKNOWN_COUNTRY: "a country code is not known",
    Refusal.INVALID_INPUT: "the request cannot be read",
}
ROLES = {
    Role.ESTABLISHMENT: "the country of establishment",
    Role.DATA_SUBJECTS: "people whose data are kept",
    Role.BILLING: "the billing country",
    Role.NETWORK: "the network country",
}
REASONS = {
    "home": "home of this customer",
    "allowed": "open by every rule",
    "conditional": "open because named conditions hold",
    "pinned": "asked for",
    "not-open": "takes no new spaces now",
}
BASES = {
    "law": "from law",
    "policy": "our own policy",
    "default": "our default, where no law is known",
}
EVIDENCE = {
    "page-read": "the source was read",
    "recalled": "from memory, the source is still to be read",
}
WARNINGS = {
    "subdivision-recommended": "Naming the subdivision may change the rule in this country.",
    "rule-review-overdue": "A rule is past the day on which it should have been reviewed.",
    "low-confidence-rule": "A rule that counted is of low confidence.",
    "ip-country-differs": "The network country differs from the declared one.",
    "coordinates-far-from-country": "The coordinates are far from the declared country.",
    "degraded-nearest": "The first in order is short of healthy zones.",
    "history-incomplete": "For that day the text of a rule is not on record.",
    "unsigned-as-of": "Not to be signed: it is asked for another day than today.",
    "unsigned-measured-rtt": "Not to be signed: it rests on measurements of the client.",
    "unsigned-vendor-assertion": (
        "Not to be signed: it rests on a condition that is not the customer's to declare, "
        "and that the reviewed facts do not show."
    ),
}


def said(words: dict[str, str], name: str) -> str:
    """The words for a name, or the name itself."""
    return words.get(name, name)


def begun(sentence: str) -> str:
    """With a capital, as a sentence begins."""
    return sentence[:1].upper() + sentence[1:]
