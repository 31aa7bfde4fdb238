"""The router's pages in the console: a question with its reasons, and the vendor's register.

Previews only, nothing is signed. What is asked stands in the address as `GET /api/v1/route` takes
it, so that a page can be shared.
"""

from __future__ import annotations

from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, cast

import azure.functions as func

from geo_router import router, tables, texts
from geo_router.pages import answer, form, register
from spaces import html
from spaces.errors import FieldError
from spaces.html import Pages
from spaces.settings import settings
from spaces.wiring import ports

if TYPE_CHECKING:
    from collections.abc import Iterable

blueprint = func.Blueprint()

PAGES = Pages(Path(__file__).resolve().parent / "pages")
EXAMPLES = (
    ("a clinic in Quebec", "country=CA&subdivision=CA-QC&sector=health"),
    ("India, with people of Germany in the data", "country=IN&data_subject_countries=DE"),
    ("China", "country=CN"),
)


@blueprint.function_name("console_routing")
@blueprint.route(route="console/routing", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def routing_page(req: func.HttpRequest) -> func.HttpResponse:
    """The routing page; an address with blanks or repeated names is first made short."""
    now = ports().clock.now()
    closed = html.gate(req, settings(), now=now, path=answer.PAGE)
    if closed is not None:
        return closed
    query = html.query_of(req)
    given = gathered(query) if query else {}
    if list(given.items()) != query:
        return html.moved(answer.PAGE, given.items())
    return routing(given, today=now.astimezone(UTC).date().isoformat())


@blueprint.function_name("console_compliance")
@blueprint.route(
    route="console/compliance", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS
)
async def compliance_page(req: func.HttpRequest) -> func.HttpResponse:
    """The vendor's register against the six clusters, narrowed by what stands in the address."""
    closed = html.gate(req, settings(), now=ports().clock.now(), path=register.PAGE)
    return closed or compliance({n: v for n, v in html.query_of(req) if v})


def gathered(query: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The fields that were given: repeated ones joined with commas, blank ones left out.

    Where nothing is left the country stands there blank, so that it is asked for.
    """
    given: dict[str, list[str]] = {}
    for name, value in query:
        if value.strip():
            given.setdefault(name, []).append(value)
    return {name: ",".join(values) for name, values in given.items()} or {"country": ""}


def routing(given: dict[str, str], *, today: str) -> func.HttpResponse:
    """The page for what was given: the bare form where that is nothing."""
    rules = tables.load()
    errors: tuple[FieldError, ...] = ()
    shown = None
    if given:
        raw: dict[str, object] = {
            name: texts.field_of(name, text, ",") for name, text in given.items() if text
        }
        settled = router.settle(rules, raw, today=today)
        if settled.form is None:
            wrong = cast("list[dict[str, str]]", settled.answer["errors"])
            errors = tuple(FieldError(**one) for one in wrong)
        else:
            shown = answer.shown(rules, settled.answer, settled.form)
    values = {
        "form": form.form(rules, given, errors),
        "shown": shown,
        "examples": EXAMPLES,
        "disclaimer": rules.disclaimer,
    }
    status = 400 if errors else 200
    return PAGES.answer("routing.html", values, here=answer.PAGE, status=status)


def compliance(given: dict[str, str]) -> func.HttpResponse:
    """The register for the filters given."""
    rules = tables.load()
    shown = register.register(rules, given)
    values = {"register": shown, "disclaimer": rules.disclaimer}
    status = 400 if shown.is_wrong else 200
    return PAGES.answer("compliance.html", values, here=register.PAGE, status=status)
