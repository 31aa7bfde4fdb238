"""Template specs: templates kept as resources, deployed by the id of one of their versions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from local.resource_manager.errors import ArmError
from local.resource_manager.providers.base import Provider, at
from local.resource_manager.values import UNKNOWN

if TYPE_CHECKING:
    from local.resource_manager.ids import ResourceId

VERSION_TYPE = "Microsoft.Resources/templateSpecs/versions"
_NAME = re.compile(r"[-\w.()]{1,90}(?<!\.)")


class TemplateSpecs(Provider):
    """`Microsoft.Resources/templateSpecs`."""

    type = "Microsoft.Resources/templateSpecs"
    at_once = True
    summary = "recorded; its versions hold templates"

    def check(self, body: dict[str, Any], target: ResourceId) -> None:
        """Its name."""
        super().check(body, target)
        _check_name(target)


class Versions(Provider):
    """`Microsoft.Resources/templateSpecs/versions`."""

    type = VERSION_TYPE
    at_once = True
    required = ("properties.mainTemplate",)
    summary = (
        "a template that deployments, nested ones and stacks name by `templateLink.id`; its "
        "linked templates are found by `relativePath`"
    )

    def check(self, body: dict[str, Any], target: ResourceId) -> None:
        """The main template and those it links to."""
        super().check(body, target)
        _check_name(target)
        main = at(body, "properties.mainTemplate")
        linked = at(body, "properties.linkedTemplates") or []
        if UNKNOWN in (main, linked):
            return
        well = isinstance(linked, list) and all(
            isinstance(one, dict)
            and isinstance(one.get("path"), str)
            and isinstance(one.get("template"), dict)
            for one in linked
        )
        if not isinstance(main, dict) or not well:
            raise ArmError(
                "InvalidTemplateSpec",
                f"The template spec version '{target.full_name}' needs a 'mainTemplate', which "
                "is an object, and 'linkedTemplates' with 'path' and 'template'.",
            )


def _check_name(target: ResourceId) -> None:
    if not _NAME.fullmatch(target.name):
        raise ArmError(
            "InvalidTemplateSpec",
            f"The resource name '{target.full_name}' is not valid. The name can only contain "
            "alphanumeric, underscore, parentheses, hyphen, period (except at end).",
        )
