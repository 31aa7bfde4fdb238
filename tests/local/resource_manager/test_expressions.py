"""The expression language: how it is taken apart, and what each function gives."""

from __future__ import annotations

import base64
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.resource_manager.errors import TemplateError
from local.resource_manager.evaluator import MAX_TEXT, resolve
from local.resource_manager.expressions import MAX_DEPTH, parse
from local.resource_manager.scope import Place, Scope
from local.resource_manager.values import NeedsRuntimeError

PLACE = Place(
    subscription="sub",
    tenant="ten",
    deployment="dep",
    group="rg",
    read_group=lambda _: {"location": "uksouth", "tags": {"a": "b"}},
)
SCOPE = Scope(
    place=PLACE, parameters={"Name": "acme", "list": [1, 2], "deep": {"A": [{"b": 7}]}}
)
X = "lambdaVariables('x')"
RG = "/subscriptions/sub/resourceGroups/rg"


def value(text: str) -> Any:
    return resolve(f"[{text}]", SCOPE)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        # strings
        ("concat('a', 1, true())", "a1True"),
        ("concat(createArray(1), createArray('b'))", [1, "b"]),
        ("base64('one, two')", "b25lLCB0d28="),
        ("base64ToString('b25lLCB0d28=')", "one, two"),
        ("""base64ToJson(base64('{"a": 1}')).a""", 1),
        ("contains('OneTwo', 'Two')", True),
        ("contains('OneTwo', 'two')", False),
        ("contains(createObject('Key', 1), 'key')", True),
        ("contains(createArray(1, 2), 2)", True),
        ("contains(createArray(1, 2), '2')", False),
        ("dataUriToString(dataUri('Hello'))", "Hello"),
        ("empty('')", True),
        ("empty(createArray('a'))", False),
        ("endsWith('abcDEF', 'def')", True),
        ("startsWith('abcdef', 'ABC')", True),
        ("format('{0}, {1}. {0:D4} {{x}} {2:N0}', 7, 'a', 8175133)", "7, a. 0007 {x} 8,175,133"),
        ("indexOf('test', 'ST')", 2),
        ("indexOf(createArray('a', 'b'), 'c')", -1),
        ("lastIndexOf('abcdefAB', 'ab')", 6),
        ("join(createArray('a', 'b'), '-')", "a-b"),
        ("""json('{"a": [1, null]}').a[0]""", 1),
        ("length('abc')", 3),
        ("length(createObject('a', 1))", 1),
        ("padLeft('123', 6, '0')", "000123"),
        ("padLeft(7, 2)", " 7"),
        ("replace('1-2-3', '-', '')", "123"),
        ("split('a,b;c', createArray(',', ';'))", ["a", "b", "c"]),
        ("string(createArray('a', 1))", '["a",1]'),
        ("substring('one two', 4, 3)", "two"),
        ("toLower('AbC')", "abc"),
        ("toUpper('AbC')", "ABC"),
        ("trim('  a ')", "a"),
        ("uri('http://c.org/f/', 'x/y')", "http://c.org/f/x/y"),
        ("uriComponent('a b&c')", "a%20b%26c"),
        ("uriComponentToString('a%20b')", "a b"),
        # names that must be the same on Azure: values published with other implementations
        ("uniqueString('test')", "rbgf3xv4ufgzg"),
        ("uniqueString('hello', 'world')", "a7wkljktk6wne"),
        ("uniqueString('abc')", "cgtzqvhu4i23s"),
        ("uniqueString('foo', 'bar', 'baz')", "xzi4ioaxtmth4"),
        # arrays and objects
        ("array('a')", ["a"]),
        ("first('abc')", "a"),
        ("first(createArray(3, 4))", 3),
        ("last(createArray(3, 4))", 4),
        ("flatten(createArray(createArray(1), createArray(2, 3)))", [1, 2, 3]),
        ("range(5, 3)", [5, 6, 7]),
        ("skip('abcd', 2)", "cd"),
        ("take(createArray(1, 2, 3), 2)", [1, 2]),
        ("union(createArray(1, 2), createArray(2, 3))", [1, 2, 3]),
        (
            "union(createObject('a', createObject('x', 1)), createObject('a', createObject('y', 2)))",
            {"a": {"x": 1, "y": 2}},
        ),
        ("intersection(createArray(1, 2, 3), createArray(3, 2))", [2, 3]),
        ("intersection(createObject('a', 1, 'b', 2), createObject('a', 1))", {"a": 1}),
        ("shallowMerge(createArray(createObject('a', 1), createObject('b', 2)))", {"a": 1, "b": 2}),
        ("items(createObject('b', 2, 'a', 1))[0].key", "a"),
        ("objectKeys(createObject('b', 2, 'a', 1))", ["a", "b"]),
        ("tryGet(parameters('deep'), 'a', 0, 'b')", 7),
        ("tryGet(parameters('deep'), 'z', 0)", None),
        ("max(createArray(1, 5, 3))", 5),
        ("min(4, 2)", 2),
        # numbers
        ("add(2, 3)", 5),
        ("sub(2, 3)", -1),
        ("mul(2, -3)", -6),
        ("div(-7, 2)", -3),
        ("mod(-7, 2)", -1),
        ("int('4')", 4),
        ("float('4.5')", 4.5),
        # truth
        ("and(true(), equals(1, 1))", True),
        ("or(false(), not(false()))", True),
        ("bool('True')", True),
        ("bool(0)", False),
        ("equals(createObject('a', 1), createObject('a', 1))", True),
        ("equals(true(), 1)", False),
        ("equals('a', 'A')", False),
        ("less('a', 'b')", True),
        ("greaterOrEquals(2, 2)", True),
        ("coalesce(null(), null(), 'c')", "c"),
        ("if(empty(''), 'yes', div(1, 0))", "yes"),
        ("or(true(), div(1, 0))", True),
        # time
        ("dateTimeAdd('2020-04-07 14:53:14Z', '-P3Y', 'yyyy-MM-dd')", "2017-04-07"),
        ("dateTimeAdd('20200131T000000Z', 'P1M')", "2020-02-29T00:00:00Z"),
        ("dateTimeAdd('2020-04-07 14:53:14Z', 'PT1H2M', 'HH:mm')", "15:55"),
        ("dateTimeToEpoch('2023-01-01T00:00:00Z')", 1672531200),
        ("dateTimeFromEpoch(1672531200)", "2023-01-01T00:00:00Z"),
        # address ranges
        ("parseCidr('10.144.0.0/20').lastUsable", "10.144.15.254"),
        ("cidrSubnet('10.144.0.0/20', 24, 2)", "10.144.2.0/24"),
        ("cidrHost('10.144.3.0/24', 1)", "10.144.3.2"),
        # lambdas
        ("filter(range(0, 6), lambda('i', less(lambdaVariables('i'), 2)))", [0, 1]),
        (f"map(createArray('a'), lambda('x', 'i', concat({X}, lambdaVariables('i'))))", ["a0"]),
        (f"reduce(range(1, 4), 0, lambda('sum', 'x', add(lambdaVariables('sum'), {X})))", 10),
        (
            f"sort(createArray(3, 1, 2), lambda('x', 'y', less({X}, lambdaVariables('y'))))",
            [1, 2, 3],
        ),
        ("toObject(createArray('a'), lambda('x', lambdaVariables('x')), lambda('x', 1))", {"a": 1}),
        (f"groupBy(createArray('ab', 'ac', 'b'), lambda('x', first({X}))).a", ["ab", "ac"]),
        ("mapValues(createObject('a', 1), lambda('x', add(lambdaVariables('x'), 1)))", {"a": 2}),
        # places
        ("parameters('name')", "acme"),
        ("parameters('deep').a[0].B", 7),
        ("parameters('list')[1]", 2),
        ("parameters('deep').?none.?more", None),
        ("parameters('list')[?9]", None),
        ("resourceGroup().location", "uksouth"),
        ("subscription().subscriptionId", "sub"),
        ("deployment().name", "dep"),
        ("environment().suffixes.storage", "core.windows.net"),
        ("resourceId('Microsoft.A/b/c', 'x', 'y')", f"{RG}/providers/Microsoft.A/b/x/c/y"),
        (
            "resourceId('other', 'Microsoft.A/b', 'x')",
            "/subscriptions/sub/resourceGroups/other/providers/Microsoft.A/b/x",
        ),
        (
            "subscriptionResourceId('Microsoft.Resources/resourceGroups', 'x')",
            "/subscriptions/sub/resourceGroups/x",
        ),
        (
            "extensionResourceId(resourceId('Microsoft.A/b', 'x'), 'Microsoft.C/d', 'y')",
            f"{RG}/providers/Microsoft.A/b/x/providers/Microsoft.C/d/y",
        ),
        ("tenantResourceId('Microsoft.A/b', 'x')", "/providers/Microsoft.A/b/x"),
        ("pickZones('Microsoft.Compute', 'virtualMachines', 'uksouth', 2)", ["1", "2"]),
        ("'it''s'", "it's"),
        ("-5", -5),
    ],
)  # fmt: skip
def test_an_expression_gives(text: str, wanted: Any) -> None:
    found = value(text)
    assert found == wanted
    assert type(found) is type(wanted)


@pytest.mark.parametrize(
    "text",
    [
        "", "concat(", "concat('a'", "concat('a',)", "parameters", "'open", "a b", "1.5",
        "parameters('x').", "concat('a'))", "noSuchFunction()", "concat()", "add(1)",
        "add(1, 2, 3)", "add('1', 2)", "parameters('missing')", "variables('missing')",
        "parameters('deep').zzz", "parameters('list')[7]", "parameters('list')['a']",
        "parameters('name')[0]", "div(1, 0)", "mod(1, 0)", "substring('abc', 2, 9)",
        "range(0, 100000)", "padLeft('a', 100000)", "json('{')", "base64ToString('%')",
        "int('x')", "less(1, 'a')", "if(1, 2, 3)", "and(1, true())", "copyIndex()",
        "lambdaVariables('x')", "filter(createArray(1), 'x')", "lambda('x', 1)",
        "resourceId('rg', 'name')", "resourceId('Microsoft.A/b', 'x', 'y')",
        "dateTimeAdd('2020-01-01', '3 days')", "dateTimeAdd('2020-01-01T00:00:00Z', 'P9999Y')",
        "cidrSubnet('10.0.0.0/24', 16, 0)", "cidrSubnet('10.0.0.0/24', 26, 9)",
        "max(createArray())", "createObject('a')", "contoso.unknown('a')",
        "shallowMerge(createArray(1))", "items('a')", "flatten(createArray(1))",
        "format('{3}', 1)", "split(1, ',')", "bool('perhaps')", "uri(1, 2)",
    ],
)  # fmt: skip
def test_a_wrong_expression_is_an_invalid_template(text: str) -> None:
    with pytest.raises(TemplateError) as refused:
        value(text)
    assert refused.value.code == "InvalidTemplate"


def test_what_only_the_cloud_knows_is_asked_for_while_deploying() -> None:
    for text in (
        "reference('x').y",
        "listKeys('x', '2024-01-01').keys[0]",
        "listAccountSas('x')",
    ):
        with pytest.raises(NeedsRuntimeError):
            value(text)


def test_guid_is_the_name_based_one_of_the_service() -> None:
    wanted = uuid.uuid5(uuid.UUID("11fb06fb-712d-4ddd-98c7-e71bbd588830"), "a-b")
    assert value("guid('a', 'b')") == str(wanted)
    assert value("newGuid()") != value("newGuid()")


def test_two_brackets_are_one_bracket_of_text() -> None:
    assert resolve("[[not(this)]", SCOPE) == "[not(this)]"
    assert resolve("no [expression]", SCOPE) == "no [expression]"


def test_keys_and_copies_are_evaluated_too() -> None:
    raw = {
        "[parameters('name')]": "[concat('a', 'b')]",
        "copy": [{"name": "disks", "count": 3, "input": {"lun": "[copyIndex('disks', 1)]"}}],
    }
    assert resolve(raw, SCOPE) == {
        "acme": "ab",
        "disks": [{"lun": 1}, {"lun": 2}, {"lun": 3}],
    }


def test_nothing_grows_without_limit() -> None:
    text = "'aaaaaaaaaaaaaaaa'"
    for _ in range(5):
        text = f"concat({', '.join([text] * 9)})"
    with pytest.raises(TemplateError):
        value(text)
    assert len(value(f"padLeft('', {MAX_TEXT // 8})")) == MAX_TEXT // 8


def test_nothing_is_nested_without_limit() -> None:
    deep = "concat(" * (MAX_DEPTH + 5) + "'a'" + ")" * (MAX_DEPTH + 5)
    with pytest.raises(TemplateError, match="nested deeper"):
        value(deep)
    indexes = "parameters('list')" + "[0" * 5000 + "]" * 5000
    with pytest.raises(TemplateError):
        value(indexes)


@given(st.text(alphabet="[]()'.,?abc019 -\\{}\"\n", max_size=60))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        parse(f"[{text}]")
    except TemplateError:
        return
    try:
        value(text)
    except (TemplateError, NeedsRuntimeError):
        return


@given(st.text(max_size=40))
def test_a_literal_survives_quoting_and_base64(text: str) -> None:
    quoted = "'" + text.replace("'", "''") + "'"
    assert value(quoted) == text
    assert value(f"base64({quoted})") == base64.b64encode(text.encode()).decode()
    assert value(f"base64ToString(base64({quoted}))") == text


@given(st.integers(-(10**9), 10**9), st.integers(-(10**6), 10**6))
def test_division_cuts_towards_zero_and_leaves_the_remainder(a: int, b: int) -> None:
    if b == 0:
        return
    assert value(f"div({a}, {b})") == int(a / b)
    assert value(f"add(mul(div({a}, {b}), {b}), mod({a}, {b}))") == a


@given(st.lists(st.integers(0, 9), max_size=8), st.lists(st.integers(0, 9), max_size=8))
def test_union_and_intersection_are_those_of_sets(a: list[int], b: list[int]) -> None:
    first = f"createArray({', '.join(map(str, a))})"
    second = f"createArray({', '.join(map(str, b))})"
    assert set(value(f"union({first}, {second})")) == set(a) | set(b)
    assert set(value(f"intersection({first}, {second})")) == set(a) & set(b)
