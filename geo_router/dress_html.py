"""The answer object as a page of its own, to be kept with a file or sent: `kpax route --html`.

No script, no style from elsewhere; every word of a request or rule is escaped. The console's routing
page shows the same object with a map and a form.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_STYLE = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;vertical-align:top;padding:.3rem .6rem;border-bottom:1px solid #888}"
    "code{overflow-wrap:anywhere}:root{color-scheme:light dark}"
)


def page(answer: Mapping[str, Any]) -> str:
    """A whole HTML document."""
    refusal = "" if answer["refusal"] is None else f": {answer['refusal']}"
    title = f"Where the space may live: {answer['decision']}{refusal}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(answer['summary'])}</p>",
        *_facts(answer),
        *_errors(answer),
        *_clusters(answer),
        *_rules(answer),
        *_listed("Warnings", answer["warnings"]),
        *_listed("To look after", [duty["text"] for duty in answer["obligations"]]),
        *_listed(
            "Declared", [f"{said['text']} ({said['holder']})" for said in answer["assertions"]]
        ),
        f"<p><small>{escape(answer['disclaimer'])}</small></p>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        "<body><main>\n" + "\n".join(parts) + "\n</main></body></html>"
    )


def _facts(answer: Mapping[str, Any]) -> Iterator[str]:
    backup, data, network = answer["backup"], answer["data"], answer["ip_evidence"]
    facts = {
        "Cluster": answer["cluster"],
        "Azure region": answer["azure_region"],
        "Backups": backup and backup["azure_region"],
        "Network": network["country"] and f"{network['country']}, by the {network['source']}",
        "Rules": f"{data['version']} as of {answer['as_of']}",
        "Data": data["hash"],
        "Request": answer["request_hash"],
        "Good until": answer["expires_at"],
        "Token": answer["token"],
    }
    rows = [(name, value) for name, value in facts.items() if value is not None]
    yield _table(
        "The decision", ("", ""), ([name, f"<code>{escape(v)}</code>"] for name, v in rows)
    )


def _errors(answer: Mapping[str, Any]) -> Iterator[str]:
    wrong = answer.get("errors")
    if wrong:
        cells = ([escape(e["pointer"] or "/"), escape(e["message"])] for e in wrong)
        yield _table("What is wrong", ("Field", "Why"), cells)


def _clusters(answer: Mapping[str, Any]) -> Iterator[str]:
    if answer["ranked"]:
        cells = (
            [
                escape(entry["cluster"]),
                f"{entry['rtt_ms']} ms",
                f"{entry['km']} km",
                escape(", ".join(entry["why"])),
            ]
            for entry in answer["ranked"]
        )
        heads = ("Cluster", "Round trip", "Distance", "Why")
        yield _table("Clusters, in the order of choice", heads, cells)
    if answer["excluded"]:
        cells = (
            [escape(entry["cluster"]), escape(entry["by"]), escape(_opens(entry["missing"]))]
            for entry in answer["excluded"]
        )
        yield _table("Not these", ("Cluster", "By", "Opens with"), cells)


def _opens(missing: Sequence[Sequence[str]] | None) -> str:
    return " or ".join(" and ".join(together) for together in missing or ()) or "nothing"


def _rules(answer: Mapping[str, Any]) -> Iterator[str]:
    for rule in answer["rules"]:
        review = ", not yet reviewed by a lawyer" if rule["needs_legal_review"] else ""
        yield f"<h2>Rule {escape(rule['id'])}: {escape(rule['title'])}</h2>"
        yield f"<p>{escape(rule['why'])}</p>"
        if rule["refuses"]:
            yield f"<p><strong>{escape(rule['refuses'])}</strong></p>"
        countries = ", ".join(rule["countries"])
        yield (
            f"<p>Read for {escape(rule['role'])}: {escape(countries)}. {escape(rule['basis'])}, "
            f"{escape(rule['strength'])}, {rule['confidence']} confidence, "
            f"{rule['evidence']}{review}.</p>"
        )
        pairs = zip(rule["citations"], rule["sources"], strict=True)
        yield _items(f"{escape(law)}: {_link(url)}" for law, url in pairs)


def _link(url: str) -> str:
    shown = escape(url)
    return f'<a href="{shown}">{shown}</a>' if url.startswith("https://") else shown


def _listed(title: str, texts: Sequence[str]) -> Iterator[str]:
    if texts:
        yield f"<h2>{title}</h2>"
        yield _items(map(escape, texts))


def _items(cells: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{cell}</li>' for cell in cells)}</ul>"


def _table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are HTML already; the first of a row names it."""
    head = "".join(f'<th scope="col">{name}</th>' for name in heads if name)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    top = f"<thead><tr>{head}</tr></thead>" if head else ""
    return f"<h2>{title}</h2><table>{top}<tbody>{body}</tbody></table>"
