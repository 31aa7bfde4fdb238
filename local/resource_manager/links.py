"""Templates by reference: the version of a template spec that a deployment names by its id.

What a version's main template links to by `relativePath` is put in its place when the version is
read. Templates at a `uri` are not downloaded: that is said in the words for one that cannot be.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any

from local.resource_manager.errors import ArmError, TemplateError
from local.resource_manager.ids import DEPLOYMENT_TYPE, parse
from local.resource_manager.providers.template_specs import VERSION_TYPE

if TYPE_CHECKING:
    from local.resource_manager.store import Store

_FIRST_WITH_ID = "2019-11-01"
_MAX_DEPTH = 5


def with_template(store: Store, body: dict[str, Any], version: str | None) -> dict[str, Any]:
    """The body of a deployment or stack with the template that its `templateLink` names.

    `version` is the API version of a deployment, None where every version takes links.

    Raises:
        ArmError: the link leads nowhere, or there is a template beside it.
    """
    properties = body.get("properties")
    if not isinstance(properties, dict):
        return body
    if properties.get("parametersLink") is not None:
        raise _not_downloaded(properties["parametersLink"])
    link = properties.get("templateLink")
    if link is None:
        return body
    if properties.get("template") is not None:
        raise _invalid("only one of template or templateLink may be given")
    template = linked(store, link, version)
    return {**body, "properties": {**properties, "template": template}}


def linked(store: Store, link: Any, version: str | None = None) -> dict[str, Any]:  # noqa: ANN401 — as it came
    """The template that a link names.

    Raises:
        ArmError: there is none, or it would have to be downloaded.
    """
    if not isinstance(link, dict):
        raise _invalid("templateLink must be an object")
    if not isinstance(link.get("id"), str):
        raise _not_downloaded(link)
    if version is not None and version[:10] < _FIRST_WITH_ID:
        raise _invalid(
            "TemplateLink ID can only be used with api-version '2019-11-01' or later"
        )
    target = parse(link["id"])
    found = store.get(target) if target.type.lower() == VERSION_TYPE.lower() else None
    if found is None or found.state in ("Creating", "Deleting"):
        raise ArmError(
            "InvalidTemplateSpec",
            f"Unable to retrieve the template content from the resource ID '{link['id']}'.",
        )
    files = {
        posixpath.normpath(one["path"]).lower(): one["template"]
        for one in found.properties.get("linkedTemplates") or []
    }
    main: dict[str, Any] = found.properties["mainTemplate"]
    return _inlined(main, files, ".", 0)


def _inlined(
    template: dict[str, Any], files: dict[str, dict[str, Any]], folder: str, depth: int
) -> dict[str, Any]:
    """A template whose nested deployments hold what they link to by a path."""
    if depth > _MAX_DEPTH:
        raise TemplateError(f"Templates link to templates deeper than {_MAX_DEPTH} levels")
    resources = template.get("resources")
    if isinstance(resources, dict):
        made: Any = {k: _one(v, files, folder, depth) for k, v in resources.items()}
    elif isinstance(resources, list):
        made = [_one(one, files, folder, depth) for one in resources]
    else:
        return template
    return {**template, "resources": made}


def _one(raw: Any, files: dict[str, dict[str, Any]], folder: str, depth: int) -> Any:  # noqa: ANN401 — as it came
    properties = raw.get("properties") if isinstance(raw, dict) else None
    if not isinstance(properties, dict) or str(raw["type"]).lower() != DEPLOYMENT_TYPE.lower():
        return raw
    inner, link = properties.get("template"), properties.get("templateLink")
    if isinstance(inner, dict):
        inlined = _inlined(inner, files, folder, depth + 1)
        return {**raw, "properties": {**properties, "template": inlined}}
    path = link.get("relativePath") if isinstance(link, dict) else None
    if not isinstance(path, str):
        return raw
    place = posixpath.normpath(posixpath.join(folder, path)).lower()
    if place not in files:
        raise ArmError(
            "InvalidTemplateSpec", f"The template spec has no linked template '{path}'."
        )
    inlined = _inlined(files[place], files, posixpath.dirname(place), depth + 1)
    rest = {key: value for key, value in properties.items() if key != "templateLink"}
    return {
        **raw,
        "properties": {
            **rest,
            "expressionEvaluationOptions": {"scope": "inner"},
            "template": inlined,
        },
    }


def _invalid(why: str) -> ArmError:
    return ArmError("InvalidDeployment", f"The deployment definition is invalid; {why}.")


def _not_downloaded(link: Any) -> ArmError:  # noqa: ANN401 — as it came
    where = link.get("uri") or link.get("relativePath") if isinstance(link, dict) else link
    return ArmError(
        "InvalidContentLink",
        f"Unable to download deployment content from '{where}'. The local Resource Manager "
        "downloads nothing: give templates and parameters by value, or templates by the id of a "
        "template spec's version.",
    )
