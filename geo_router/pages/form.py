"""The form of the routing page: every field of a request as a control, with what is wrong at it.

The texts come from the address and go back into the controls as they are; which of them cannot be
read is said by `reading`, never judged here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from geo_router import texts
from geo_router.reading import FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from geo_router.tables import Tables
    from spaces.errors import FieldError

COUNTRY_FIELDS = ("country", "billing_country", "ip_country")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One thing to be chosen."""

    value: str
    text: str
    is_chosen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One field: `kind` is text, code, date, select, checks or flag."""

    name: str
    kind: str
    label: str
    hint: str
    value: str = ""
    choices: tuple[Choice, ...] = ()
    wrong: tuple[str, ...] = ()

    @property
    def is_used(self) -> bool:
        """True where something was given or is wrong."""
        return bool(self.value or self.wrong or any(c.is_chosen for c in self.choices))


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Controls under one heading; folded away while none of them is used."""

    id: str
    title: str
    controls: tuple[Control, ...]
    is_folded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """One mistake for the list at the head; `target` is the control's id, or none."""

    target: str
    label: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """The whole form."""

    groups: tuple[Group, ...]
    wrong: tuple[Wrong, ...]
    countries: tuple[Choice, ...]
    subdivisions: tuple[str, ...]


_GROUPS = (
    ("who", "The customer", ("country", "subdivision", "sector", "data_subject_countries")),
    (
        "wishes",
        "Wishes",
        ("pin", "exclude", "prefer", "strict_residency", "allow_fallback"),
    ),
    ("declared", "Conditions", ("assertions", "withdrawn")),
    ("certificates", "Certifications", ("certifications", "accept_superseded")),
    ("evidence", "Evidence of the place", ("billing_country", "ip_country", "coordinates")),
    ("more", "Day, data, measurements", ("as_of", "data_kinds", "measured_rtt")),
)
_TEXTS = {
    "country": (
        "Country of establishment",
        "Two letters, ISO 3166-1: DE. It decides the law; type a name to find its code.",
    ),
    "subdivision": (
        "Subdivision",
        "ISO 3166-2, where it changes the rule: CA-QC, regions of Ukraine.",
    ),
    "sector": ("Sector", ""),
    "data_subject_countries": (
        "Countries whose people are in the data",
        "Codes with commas: DE, BR. Each narrows the law.",
    ),
    "billing_country": ("Billing country", "Where it differs, both must allow the cluster."),
    "ip_country": (
        "Network country",
        "Never moves a space; a country under sanctions is looked at by a person.",
    ),
    "coordinates": ("Coordinates", "Latitude, longitude: 48.8, 2.3. Distance only, never law."),
    "assertions": (
        "Declared to hold",
        "What the contract or the vendor must say gives a preview, never a signed decision.",
    ),
    "withdrawn": ("Does not hold", "Takes back what holds by default."),
    "certifications": (
        "The cluster must carry",
        "The platform vendor's offerings. We hold no certificate of our own.",
    ),
    "accept_superseded": ("Superseded and retired certificates count", ""),
    "pin": ("Only this cluster", "A wish narrows, it never widens."),
    "exclude": ("Not these clusters", ""),
    "prefer": ("Order", ""),
    "strict_residency": ("Only the home cluster", ""),
    "allow_fallback": ("May move on when home is full", ""),
    "measured_rtt": (
        "Measured round trips",
        "uk=12,uk=11,uk=14,france=9,… in ms; at least three for each allowed cluster.",
    ),
    "as_of": ("As of", "A day as YYYY-MM-DD; today where left out. Other days give a preview."),
    "data_kinds": ("Kinds of data", "They add duties to the answer, never change the place."),
}
_KINDS = {"sector": "select", "pin": "select", "prefer": "select", "as_of": "date"}


def form(rules: Tables, given: Mapping[str, str], errors: Iterable[FieldError] = ()) -> Form:
    """The form with what was given and what is wrong with it; errors as `reading` tells them."""
    listed = tuple(errors)
    wrong: dict[str, list[str]] = {}
    for error in listed:
        wrong.setdefault(_field_of(error), []).append(error.message)
    make = _Maker(rules, given, wrong)
    return Form(
        groups=tuple(_group(make, *one) for one in _GROUPS),
        wrong=tuple(_wrong(error) for error in listed),
        countries=tuple(
            Choice(value=country.code, text=country.name, is_chosen=False)
            for country in rules.countries.values()
        ),
        subdivisions=tuple(rules.subdivisions),
    )


def _group(make: _Maker, name: str, title: str, fields: Sequence[str]) -> Group:
    controls = tuple(make.control(field) for field in fields)
    folded = name != "who" and not any(control.is_used for control in controls)
    return Group(id=name, title=title, controls=controls, is_folded=folded)


def _field_of(error: FieldError) -> str:
    """The field that an error's pointer leads into."""
    return error.pointer.lstrip("/").partition("/")[0]


def _wrong(error: FieldError) -> Wrong:
    name = _field_of(error)
    known = name in FIELDS
    return Wrong(
        target=f"f-{name}" if known else "",
        label=_TEXTS[name][0] if known else "The address",
        message=error.message,
    )


class _Maker:
    """Makes controls of the same rules, texts and mistakes."""

    def __init__(
        self, rules: Tables, given: Mapping[str, str], wrong: Mapping[str, list[str]]
    ) -> None:
        self.rules = rules
        self.given = given
        self.wrong = wrong

    def control(self, name: str) -> Control:
        label, hint = _TEXTS[name]
        wrong = tuple(self.wrong.get(name, ()))
        text = self.given.get(name, "")
        if name in texts.FLAGS:
            chosen = text.strip().lower() == "true"
            choices = (Choice(value="true", text=label, is_chosen=chosen),)
            kind, value = "flag", ""
        elif name in _CHOICES:
            choices, value = self._choices(name, text), ""
            kind = _KINDS.get(name, "checks")
        else:
            kind = "code" if name in COUNTRY_FIELDS else _KINDS.get(name, "text")
            if kind == "date" and wrong:
                kind = "text"  # a browser's date field drops what is no date, and it is to be mended
            choices, value = (), text
        return Control(
            name=name,
            kind=kind,
            label=label,
            hint=hint,
            value=value,
            choices=choices,
            wrong=wrong,
        )

    def _choices(self, name: str, text: str) -> tuple[Choice, ...]:
        chosen = self._chosen(name, text)
        choices = [
            Choice(value=value, text=words, is_chosen=value in chosen and value != "")
            for value, words in _CHOICES[name](self.rules)
        ]
        if name == "certifications":
            # There are many, in a box of its own height: what is chosen is not to be looked for.
            choices.sort(key=lambda choice: not choice.is_chosen)
        return tuple(choices)

    def _chosen(self, name: str, text: str) -> set[str]:
        named = set(texts.list_of(text, ",")) if name in texts.LISTS else {text.strip()}
        if name not in ("pin", "exclude"):
            return named
        numbers = self.rules.cluster_numbers
        found = {numbers.get(one.lower()) for one in named}
        return {self.rules.clusters[at].id for at in found if at is not None}


def _sectors(rules: Tables) -> list[tuple[str, str]]:
    # The first is what holds where nothing is said: it stays out of the address.
    return [("", "none of these"), *[(one, one) for one in rules.sectors if one != "general"]]


def _orders(_rules: Tables) -> list[tuple[str, str]]:
    return [("", "home first, then the nearest"), ("latency", "the nearest first")]


def _clusters(rules: Tables) -> list[tuple[str, str]]:
    return [(cluster.id, cluster.name) for cluster in rules.clusters]


def _pins(rules: Tables) -> list[tuple[str, str]]:
    return [("", "any"), *_clusters(rules)]


def _conditions(rules: Tables) -> list[tuple[str, str]]:
    default = {True: ", holds by default", False: ""}
    return [
        (one.id, f"{one.text} (said by the {one.holder}{default[one.default]})")
        for one in rules.conditions
    ]


def _offerings(rules: Tables) -> list[tuple[str, str]]:
    return [
        (name, one.title if one.status == "current" else f"{one.title} ({one.status})")
        for name, one in rules.offerings.items()
    ]


def _data_kinds(rules: Tables) -> list[tuple[str, str]]:
    return [(name, text.partition(". ")[0]) for name, text in rules.data_kinds.items()]


_CHOICES = {
    "sector": _sectors,
    "prefer": _orders,
    "pin": _pins,
    "exclude": _clusters,
    "assertions": _conditions,
    "withdrawn": _conditions,
    "certifications": _offerings,
    "data_kinds": _data_kinds,
}
