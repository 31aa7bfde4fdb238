"""Templates of strangers: no crash, no hang, no memory without end."""

from __future__ import annotations

import asyncio
import json
import resource
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local.home import Home
from local.resource_manager.budget import budgeted
from local.resource_manager.errors import ArmError, TemplateError
from local.resource_manager.forecast import Forecaster
from local.resource_manager.functions import FUNCTIONS
from local.resource_manager.ids import ResourceId
from local.resource_manager.service import Service
from tests.local.resource_manager.clients import (
    a_network,
    an_account,
    group_template,
    nested,
)
from tests.local.resource_manager.doubles import a_cloud

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    made = Service(a_cloud(Home.open(tmp_path_factory.mktemp("fuzz") / "home")))
    group = ResourceId(made.cloud.subscription, "rg")
    made.resources.put_group(group, {"location": "francecentral"})
    yield made
    asyncio.run(made.stop())


def look(service: Service, template: Any, parameters: Any = None) -> dict[str, Any] | None:
    """Validate and foresee; the refusal's body, or None. Anything else is a crash."""
    target = ResourceId(service.cloud.subscription, "rg").under(
        "Microsoft.Resources/deployments", "d"
    )
    properties = {"mode": "Incremental", "template": template, "parameters": parameters}
    place = service.deployments.place(target, None)
    with budgeted():
        try:
            service.deployments.validate(properties, place)
            found = Forecaster(service.resources, service.deployments)
            json.dumps(
                [
                    one.after
                    for one in found.foresee(target, properties, place).changes.values()
                ],
                default=repr,
            )
        except ArmError as error:
            return error.body()
    return None


NAMES = [
    *sorted(one.name for one in FUNCTIONS.values() if one.name != "list*"),
    "listKeys",
]
LITERALS = st.one_of(
    st.integers(-(2**63), 2**63).map(str),
    st.sampled_from(["0", "1", "-1", "10000", "800", "3"]),
    st.text("ab'/.,[]{}0:%é\n", max_size=6).map(lambda s: "'" + s.replace("'", "''") + "'"),
    st.sampled_from(["'a'", "'net'", "'10.0.0.0/16'", "'P1D'", "'{0:D9}{1}'", "'[1,{}]'"]),
)


def _call(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    arguments = st.lists(inner, max_size=4).map(", ".join)
    tails = st.sampled_from(["", "", "", "[0]", ".a", ".?a", "[?1]"])
    return st.builds(
        lambda name, args, tail: f"{name}({args}){tail}",
        st.sampled_from(NAMES),
        arguments,
        tails,
    )


EXPRESSIONS = st.recursive(LITERALS, _call, max_leaves=12).map(lambda text: f"[{text}]")
VALUES = st.recursive(
    st.one_of(EXPRESSIONS, st.none(), st.booleans(), st.integers(-9, 9), st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["a", "name", "copy", "tags", "x"]), inner, max_size=3),
    ),
    max_leaves=8,
)
MANY = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@MANY
@given(first=EXPRESSIONS, second=VALUES, third=EXPRESSIONS)
def test_no_expression_crashes(service: Service, first: str, second: Any, third: str) -> None:
    template = group_template(
        a_network(tags={"a": first}, condition=third),
        variables={"v": second},
        outputs={"o": {"type": "object", "value": "[variables('v')]"}},
    )
    said = look(service, template)
    assert said is None or said["error"]["code"]


KEYS = st.sampled_from([
    "type", "apiVersion", "name", "location", "tags", "properties", "dependsOn", "condition",
    "copy", "scope", "resources", "sku", "zones", "kind", "existing", "identity", "x",
])  # fmt: skip


@MANY
@given(change=st.dictionaries(KEYS, VALUES, min_size=1, max_size=3), inner=st.booleans())
def test_no_resource_crashes(service: Service, change: dict[str, Any], inner: bool) -> None:
    template = group_template({**an_account(), **change}, a_network())
    if inner:
        template = group_template(nested("n", "rg", template, dependsOn=[]))
    said = look(service, template)
    assert said is None or said["error"]["code"]


PARTS = st.sampled_from([
    "$schema", "contentVersion", "parameters", "variables", "functions", "resources", "outputs",
    "metadata", "languageVersion",
])  # fmt: skip


@MANY
@given(change=st.dictionaries(PARTS, VALUES, min_size=1, max_size=3), parameters=VALUES)
def test_no_template_crashes(service: Service, change: dict[str, Any], parameters: Any) -> None:
    said = look(service, {**group_template(an_account()), **change}, parameters)
    assert said is None or said["error"]["code"]


DOUBLED = {"v0": "0123456789"} | {
    f"v{n}": f"[createArray(variables('v{n - 1}'), variables('v{n - 1}'))]"
    for n in range(1, 80)
}
OBJECTS = {"v0": {"a": "0123456789"}} | {
    f"v{n}": {"x": f"[variables('v{n - 1}')]", "y": f"[variables('v{n - 1}')]"}
    for n in range(1, 80)
}
DEEP = {"v0": {"a": 1}} | {f"v{n}": {"x": f"[variables('v{n - 1}')]"} for n in range(1, 3000)}
SQUARED = {"v0": "[2]"} | {
    f"v{n}": f"[mul(variables('v{n - 1}'), variables('v{n - 1}'))]" for n in range(1, 60)
}
LONG = {"a": "[padLeft('', 16384, 'a')]"}
MAPS = "[range(0, 10000)]"
for _depth in range(4):
    MAPS = f"[map(range(0, 10000), lambda('x', {MAPS[1:-1]}))]"


@pytest.mark.parametrize(
    "variables",
    [
        pytest.param(DOUBLED, id="arrays of arrays"),
        pytest.param(OBJECTS, id="objects of objects"),
        pytest.param(DEEP, id="a deep chain"),
        pytest.param(SQUARED, id="large numbers"),
        pytest.param({"v": MAPS}, id="maps in maps"),
        pytest.param({**LONG, "v": "[replace(variables('a'), 'a', variables('a'))]"}, id="replace"),
        pytest.param({**LONG, "v": "[join(range(0, 10000), variables('a'))]"}, id="join"),
        pytest.param({"v": "[format('{0:D999999999}', 1)]"}, id="format"),
        pytest.param({"v": f"[{'not(' * 5000}true(){')' * 5000}]"}, id="a deep expression"),
        pytest.param(
            {"copy": [{"name": "v", "count": 800, "input": {"copy": [
                {"name": "w", "count": 800, "input": {"copy": [
                    {"name": "x", "count": 800, "input": "[copyIndex('x')]"}]}}]}}]},
            id="loops in loops",
        ),
    ],
)  # fmt: skip
def test_no_bomb_goes_off(service: Service, variables: dict[str, Any]) -> None:
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = look(service, group_template(variables=variables))
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
    assert said is not None
    assert said["error"]["code"] == "InvalidTemplate"
    assert grown_kib < 100 * 1024


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("replace", ("a" * 16384, "a", "b" * 16384)),
        ("join", (["a"] * 10000, "b" * 16384)),
        ("format", ("{0}" * 200, "a" * 100_000)),
        ("format", ("{0:D999999}", 1)),
        ("padLeft", ("a", 100_000_000)),
    ],
)
def test_no_function_builds_first_and_asks_then(name: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TemplateError):
        FUNCTIONS[name.lower()].call(*arguments)


def test_many_nested_deployments_in_loops_end(service: Service) -> None:
    loop = {"name": "l", "count": 800}
    inner = group_template(
        nested("[concat('m', copyIndex())]", "rg", group_template(an_account()), copy=loop,
               dependsOn=[]))  # fmt: skip
    outer = group_template(
        nested("[concat('n', copyIndex())]", "rg", inner, copy=loop, dependsOn=[])
    )
    said = look(service, outer)
    assert said is not None
    assert "more work" in said["error"]["message"]


def test_an_honest_large_template_passes(service: Service) -> None:
    net = a_network(
        "[concat('net', copyIndex())]",
        copy={"name": "l", "count": 800},
        tags={
            f"t{n}": "[concat('a', string(copyIndex()), uniqueString('b'))]" for n in range(20)
        },
    )
    assert look(service, group_template(net)) is None
