"""Parameters that are given as a reference to a secret of a key vault.

The value is read when the deployment is checked or run; what is kept and shown is the reference
or nothing. Only secure parameters take one, so that no value can be shown by its parameter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from local.resource_manager.errors import ArmError, TemplateError
from local.resource_manager.ids import parse
from local.resource_manager.parameters import is_secure
from local.resource_manager.providers.vault import VAULT
from local.resource_manager.values import find_name

if TYPE_CHECKING:
    from local.resource_manager.cloud import Cloud


async def with_secrets(cloud: Cloud, body: dict[str, Any]) -> dict[str, Any]:
    """The body of a deployment or stack with the values of secrets in its parameters.

    Raises:
        ArmError: a reference leads nowhere, or may not be followed.
    """
    properties = body.get("properties")
    if not isinstance(properties, dict):
        return body
    given = await values_of(cloud, properties.get("parameters"), properties.get("template"))
    return (
        body if given is None else {**body, "properties": {**properties, "parameters": given}}
    )


async def values_of(cloud: Cloud, given: Any, template: Any) -> dict[str, Any] | None:  # noqa: ANN401 — as they came
    """Parameters with the values of secrets; None when none is a reference.

    Raises:
        ArmError: a reference leads nowhere, or may not be followed.
    """
    if not isinstance(given, dict):
        return None
    referred = [
        name for name, one in given.items() if isinstance(one, dict) and "reference" in one
    ]
    if not referred:
        return None
    declared = template.get("parameters") if isinstance(template, dict) else None
    found = dict(given)
    for name in referred:
        key = find_name(declared, name) if isinstance(declared, dict) else None
        kind = declared[key] if key and isinstance(declared, dict) else None
        if isinstance(kind, dict) and not is_secure(kind):
            raise TemplateError(
                f"The parameter '{name}' refers to a key vault and must be of the type "
                "securestring or secureobject"
            )
        found[name] = {"value": await _secret(cloud, name, given[name]["reference"])}
    return found


async def _secret(cloud: Cloud, name: str, reference: Any) -> str:  # noqa: ANN401 — as it came
    vault = reference.get("keyVault") if isinstance(reference, dict) else None
    where = vault.get("id") if isinstance(vault, dict) else None
    secret = reference.get("secretName") if isinstance(reference, dict) else None
    if not isinstance(where, str) or not isinstance(secret, str):
        raise TemplateError(
            f"The reference of the parameter '{name}' needs keyVault.id and secretName"
        )
    target = parse(where)
    record = cloud.store.get(target) if target.type.lower() == VAULT.lower() else None
    if record is None:
        raise _refused("KeyVaultParameterReferenceNotFound", f"'{where}' was not found.")
    if record.properties.get("enabledForTemplateDeployment") is not True:
        raise _refused(
            "KeyVaultParameterReferenceAccessDenied",
            f"The vault '{record.id.name}' is not enabled for template deployment.",
            status=403,
        )
    version = reference.get("secretVersion")
    value = await cloud.vault_data.get_secret(record.id.name, secret, version)
    if value is None:
        raise _refused(
            "KeyVaultParameterReferenceSecretRetrieveFailed",
            f"The secret '{secret}' of the vault '{record.id.name}' cannot be retrieved.",
        )
    return value


def _refused(code: str, why: str, *, status: int = 400) -> ArmError:
    return ArmError(
        code, f"The specified KeyVault reference is not valid: {why}", status=status
    )
