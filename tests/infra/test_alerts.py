"""Alert rules, log lines and the paragraphs that say what to do tell of the same events."""

from __future__ import annotations

import ast
import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from local.resource_manager.evaluator import resolve
from local.resource_manager.graph import build
from local.resource_manager.scope import Place
from local.resource_manager.template import read
from provisioning.alarms import Kind
from spaces.telemetry import JsonFormatter
from tests.functions import functions

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).resolve().parents[2]
ROOMS = ("spaces", "geo_router", "provisioning", "backups", "console")
PROVIDERS = "/subscriptions/s/resourceGroups/g/providers"
GIVEN = {
    "location": "francecentral",
    "workspace": f"{PROVIDERS}/Microsoft.OperationalInsights/workspaces/w",
    "wakeGroup": f"{PROVIDERS}/Microsoft.Insights/actionGroups/wake",
    "informGroup": f"{PROVIDERS}/Microsoft.Insights/actionGroups/inform",
}
CONDITION = re.compile(r"tostring\(line\.(\w+)\) == '([^']+)'")
SEE = re.compile(r"docs/running\.md#([\w.-]+)")


@dataclass(frozen=True, slots=True)
class Line:
    """A place that logs: the event, how loudly, and the anchors that the call names itself."""

    event: str
    level: str
    where: str
    see: tuple[str, ...]


def source() -> Iterator[tuple[Path, ast.Module]]:
    for room in ROOMS:
        for path in sorted((PROJECT / room).rglob("*.py")):
            yield path, ast.parse(path.read_text())


def lines() -> list[Line]:
    """Every call of a logger in the product whose event is a text or a constant of its module."""
    found: list[Line] = []
    for path, module in source():
        constants = {
            target.id: node.value.value
            for node in module.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for call in ast.walk(module):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
                continue
            if not (isinstance(call.func.value, ast.Name) and "log" in call.func.value.id):
                continue
            if not call.args or call.func.attr not in {"error", "exception", "warning", "info"}:
                continue
            first = call.args[0]
            event = first.value if isinstance(first, ast.Constant) else None
            if isinstance(first, ast.Name):
                event = constants.get(first.id)
            if isinstance(event, str):
                where = f"{path.relative_to(PROJECT)}:{call.lineno}"
                see = tuple(SEE.findall(ast.unparse(call)))
                found.append(Line(event, call.func.attr, where, see))
    return found


def loud() -> list[Line]:
    return [one for one in lines() if one.level in {"error", "exception"}]


def template() -> dict[str, Any]:
    return json.loads((PROJECT / "infra" / "alerts.json").read_text())


def rules() -> dict[str, dict[str, Any]]:
    """The rules as the Resource Manager evaluates them, by name."""
    place = Place(subscription="s", tenant="t", deployment="d", location="x", group="g")
    bound = read(template(), {name: {"value": value} for name, value in GIVEN.items()}, place)
    graph = build(bound)
    return {
        node.id.full_name.rpartition("/")[2]: resolve(
            node.raw["properties"], graph.seen_from(node.scope)
        )
        for node in graph.nodes.values()
    }


def query(rule: dict[str, Any]) -> str:
    (criterion,) = rule["criteria"]["allOf"]
    return criterion["query"]


def told_by(rule: dict[str, Any]) -> dict[str, str]:
    """What a log line must say for this rule: `event`, and `kind` where it asks for one."""
    return dict(CONDITION.findall(query(rule)))


def anchors() -> set[str]:
    """Anchors of docs/running.md: those written out, and those of plain headings."""
    text = (PROJECT / "docs" / "running.md").read_text()
    written = set(re.findall(r'<a id="([^"]+)">', text))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = [one for one in headings if "<a id" not in one]
    return written | {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in plain}


RULES = rules()
BY_LOG = {name: rule for name, rule in RULES.items() if told_by(rule)}


def test_every_error_of_the_product_has_a_rule_and_a_paragraph() -> None:
    ruled = {told_by(rule)["event"] for rule in BY_LOG.values()}
    assert len(loud()) > 10
    assert {one.event for one in loud()} - ruled == set()
    for one in loud():
        if one.event != "alarm.raised":
            assert one.event in anchors(), one.where


def test_no_rule_waits_for_what_nothing_says() -> None:
    said = {one.event for one in lines()}
    assert {told_by(rule)["event"] for rule in BY_LOG.values()} - said == set()


def test_every_kind_of_alarm_has_its_rule() -> None:
    kinds = [told_by(rule).get("kind") for rule in BY_LOG.values()]
    assert sorted(kind for kind in kinds if kind) == sorted(Kind)


def test_an_error_names_its_own_paragraph() -> None:
    """Two are put together elsewhere: by the alarm's kind, and beside the operation's fields."""
    put_together = {"alarm.raised", "operation.needs_operator"}
    for one in loud():
        if one.event not in put_together:
            assert one.see == (one.event,), one.where
    for path, _ in source():
        for anchor in SEE.findall(path.read_text()):
            assert anchor in anchors(), f"{path.name}: #{anchor}"
    for path in [PROJECT / "spaces/saga/sweep.py", PROJECT / "spaces/saga/runner.py"]:
        assert "operation.needs_operator" in SEE.findall(path.read_text())


@pytest.mark.parametrize("name", RULES)
def test_a_rule_leads_to_its_paragraph(name: str) -> None:
    rule = RULES[name]
    see = rule["actions"]["customProperties"]["see"]
    (anchor,) = SEE.findall(see)
    assert anchor in anchors()
    assert rule["description"].endswith(f"What to do: {see}")
    told = told_by(rule)
    assert anchor == told.get("kind", told.get("event", name.removeprefix("kpax-")))


@pytest.mark.parametrize("name", BY_LOG)
def test_a_line_as_it_is_logged_meets_its_rule(name: str) -> None:
    told = told_by(RULES[name])
    record = logging.makeLogRecord({"msg": told["event"], "name": "kpax.x", "levelno": 40})
    record.__dict__.update({key: value for key, value in told.items() if key != "event"})
    line = JsonFormatter().format(record)
    assert json.loads(line).items() >= told.items()
    assert f"Message contains '{told['event']}'" in query(RULES[name])


def test_what_wakes_is_severe_and_what_informs_is_not() -> None:
    for name, rule in RULES.items():
        (group,) = rule["actions"]["actionGroups"]
        assert group == GIVEN["wakeGroup" if rule["severity"] <= 1 else "informGroup"], name


def test_rules_over_measures_name_what_is_measured() -> None:
    names = {name for room in ROOMS for name in _constants(room) if name.startswith("kpax.")}
    measured = [query(rule) for name, rule in RULES.items() if name not in BY_LOG]
    for text in measured:
        (name,) = re.findall(r"where Name == '([^']+)'", text)
        assert name in names or name in functions()


def test_there_are_as_many_rules_as_the_template_says() -> None:
    variables = template()["variables"]
    assert len(RULES) == len(variables["events"]) + len(variables["measures"])
    for rule in RULES.values():
        (criterion,) = rule["criteria"]["allOf"]
        assert isinstance(criterion["threshold"], int)
        assert criterion["operator"] in {"GreaterThan", "LessThan"}


def _constants(room: str) -> set[str]:
    return {
        node.value
        for path, module in source()
        if room in path.parts
        for node in ast.walk(module)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
