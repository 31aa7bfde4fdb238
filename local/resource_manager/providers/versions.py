"""API versions and places of each type, as the service knows them.

Versions: per type, as the type files of Azure/bicep-types-az had them in August 2026, and
2026-06-01 for deployments, which the Python SDK sends. Of the Resource Manager's own other types
(operations, providers, subscriptions) those that its SDKs have sent.
"""

from __future__ import annotations

import re

from local.resource_manager.errors import ArmError

REGIONS = (
    "australiacentral", "australiacentral2", "australiaeast",
    "australiasoutheast", "austriaeast", "belgiumcentral", "brazilsouth", "brazilsoutheast",
    "canadacentral", "canadaeast", "centralindia", "centralus", "chilecentral", "eastasia",
    "eastus", "eastus2", "francecentral", "francesouth", "germanynorth", "germanywestcentral",
    "indonesiacentral", "israelcentral", "italynorth", "japaneast", "japanwest",
    "jioindiacentral", "jioindiawest", "koreacentral", "koreasouth", "malaysiawest",
    "mexicocentral", "newzealandnorth", "northcentralus", "northeurope", "norwayeast",
    "norwaywest", "polandcentral", "qatarcentral", "southafricanorth", "southafricawest",
    "southcentralus", "southeastasia", "southindia", "spaincentral", "swedencentral",
    "switzerlandnorth", "switzerlandwest", "uaecentral", "uaenorth", "uksouth", "ukwest",
    "westcentralus", "westeurope", "westindia", "westus", "westus2", "westus3",
)  # fmt: skip

_VERSIONS = {
    "microsoft.authorization/roleassignments": (
        "2015-07-01 2017-10-01-preview 2018-01-01-preview 2018-09-01-preview "
        "2020-03-01-preview 2020-04-01-preview 2020-08-01-preview 2020-10-01-preview "
        "2022-04-01"
    ),
    "microsoft.cdn/profiles": (
        "2015-06-01 2016-04-02 2016-10-02 2017-04-02 2017-10-12 2019-04-15 2019-06-15-preview "
        "2019-06-15 2019-12-31 2020-04-15 2020-09-01 2021-06-01 2022-05-01-preview "
        "2022-11-01-preview 2023-05-01 2023-07-01-preview 2024-02-01 2024-05-01-preview "
        "2024-06-01-preview 2024-09-01 2025-01-01-preview 2025-04-15 2025-05-01-preview "
        "2025-06-01 2025-07-01-preview 2025-09-01-preview 2025-12-01 2026-04-01-preview"
    ),
    "microsoft.compute/virtualmachinescalesets": (
        "2015-06-15 2016-03-30 2016-04-30-preview 2017-03-30 2017-12-01 2018-04-01 2018-06-01 "
        "2018-10-01 2019-03-01 2019-07-01 2019-12-01 2020-06-01 2020-12-01 2021-03-01 "
        "2021-04-01 2021-07-01 2021-11-01 2022-03-01 2022-08-01 2022-11-01 2023-03-01 "
        "2023-07-01 2023-09-01 2024-03-01 2024-07-01 2024-11-01 2025-04-01 2025-11-01 "
        "2026-03-01 2026-04-01"
    ),
    "microsoft.dbforpostgresql/flexibleservers": (
        "2020-02-14-preview 2021-06-01-preview 2021-06-01 2022-01-20-preview "
        "2022-03-08-preview 2022-12-01 2023-03-01-preview 2023-06-01-preview "
        "2023-12-01-preview 2024-03-01-preview 2024-08-01 2024-11-01-preview "
        "2025-01-01-preview 2025-06-01-preview 2025-08-01 2026-01-01-preview "
        "2026-04-01-preview"
    ),
    "microsoft.dbforpostgresql/flexibleservers/databases": (
        "2020-11-05-preview 2021-06-01-preview 2021-06-01 2022-01-20-preview "
        "2022-03-08-preview 2022-12-01 2023-03-01-preview 2023-06-01-preview "
        "2023-12-01-preview 2024-03-01-preview 2024-08-01 2024-11-01-preview "
        "2025-01-01-preview 2025-06-01-preview 2025-08-01 2026-01-01-preview "
        "2026-04-01-preview"
    ),
    "microsoft.keyvault/vaults": (
        "2015-06-01 2016-10-01 2018-02-14-preview 2018-02-14 2019-09-01 2020-04-01-preview "
        "2021-04-01-preview 2021-06-01-preview 2021-10-01 2021-11-01-preview "
        "2022-02-01-preview 2022-07-01 2022-11-01 2023-02-01 2023-07-01 2024-04-01-preview "
        "2024-11-01 2024-12-01-preview 2025-05-01 2026-02-01 2026-03-01-preview"
    ),
    "microsoft.managedidentity/userassignedidentities": (
        "2015-08-31-preview 2018-11-30 2021-09-30-preview 2022-01-31-preview 2023-01-31 "
        "2023-07-31-preview 2024-11-30 2025-01-31-preview 2025-05-31-preview"
    ),
    "microsoft.network/loadbalancers": (
        "2015-05-01-preview 2015-06-15 2016-03-30 2016-06-01 2016-09-01 2016-12-01 2017-03-01 "
        "2017-03-30 2017-06-01 2017-08-01 2017-09-01 2017-10-01 2017-11-01 2018-01-01 "
        "2018-02-01 2018-04-01 2018-06-01 2018-07-01 2018-08-01 2018-10-01 2018-11-01 "
        "2018-12-01 2019-02-01 2019-04-01 2019-06-01 2019-07-01 2019-08-01 2019-09-01 "
        "2019-11-01 2019-12-01 2020-03-01 2020-04-01 2020-05-01 2020-06-01 2020-07-01 "
        "2020-08-01 2020-11-01 2021-02-01 2021-03-01 2021-05-01 2021-08-01 2022-01-01 "
        "2022-05-01 2022-07-01 2022-09-01 2022-11-01 2023-02-01 2023-04-01 2023-05-01 "
        "2023-06-01 2023-09-01 2023-11-01 2024-01-01 2024-03-01 2024-05-01 2024-07-01 "
        "2024-10-01 2025-01-01 2025-03-01 2025-05-01 2025-07-01 2025-09-01"
    ),
    "microsoft.network/natgateways": (
        "2018-10-01 2019-02-01 2019-04-01 2019-06-01 2019-07-01 2019-08-01 2019-09-01 "
        "2019-11-01 2019-12-01 2020-03-01 2020-04-01 2020-05-01 2020-06-01 2020-07-01 "
        "2020-08-01 2020-11-01 2021-02-01 2021-03-01 2021-05-01 2021-08-01 2022-01-01 "
        "2022-05-01 2022-07-01 2022-09-01 2022-11-01 2023-02-01 2023-04-01 2023-05-01 "
        "2023-06-01 2023-09-01 2023-11-01 2024-01-01 2024-03-01 2024-05-01 2024-07-01 "
        "2024-10-01 2025-01-01 2025-03-01 2025-05-01 2025-07-01 2025-09-01"
    ),
    "microsoft.network/privatednszones": "2018-09-01 2020-01-01 2020-06-01 2024-06-01",
    "microsoft.network/privateendpoints": (
        "2018-10-01 2019-04-01 2019-06-01 2019-07-01 2019-08-01 2019-09-01 2019-11-01 "
        "2019-12-01 2020-03-01 2020-04-01 2020-05-01 2020-06-01 2020-07-01 2020-08-01 "
        "2020-11-01 2021-02-01 2021-03-01 2021-05-01 2021-08-01 2022-01-01 2022-05-01 "
        "2022-07-01 2022-09-01 2022-11-01 2023-02-01 2023-04-01 2023-05-01 2023-06-01 "
        "2023-09-01 2023-11-01 2024-01-01 2024-03-01 2024-05-01 2024-07-01 2024-10-01 "
        "2025-01-01 2025-03-01 2025-05-01 2025-07-01 2025-09-01"
    ),
    "microsoft.resources": (
        "2015-11-01 2016-02-01 2016-07-01 2016-09-01 2017-05-10 2018-02-01 2018-05-01 "
        "2019-03-01 2019-05-01 2019-05-10 2019-07-01 2019-08-01 2019-10-01 2020-06-01 "
        "2020-08-01 2020-10-01 2021-01-01 2021-04-01 2022-09-01 2023-07-01 2024-03-01 "
        "2024-07-01 2024-11-01 2025-03-01 2025-04-01 2026-06-01"
    ),
    "microsoft.resources/deployments": (
        "2015-11-01 2016-02-01 2016-07-01 2016-09-01 2017-05-10 2018-02-01 2018-05-01 "
        "2019-03-01 2019-05-01 2019-05-10 2019-07-01 2019-08-01 2019-10-01 2020-06-01 "
        "2020-08-01 2020-10-01 2021-01-01 2021-04-01 2022-09-01 2023-07-01 2024-03-01 "
        "2024-07-01 2024-11-01 2025-03-01 2025-04-01 2026-06-01"
    ),
    "microsoft.resources/deploymentstacks": "2022-08-01-preview 2024-03-01 2025-07-01",
    "microsoft.resources/resourcegroups": (
        "2015-11-01 2016-02-01 2016-07-01 2016-09-01 2017-05-10 2018-02-01 2018-05-01 "
        "2019-03-01 2019-05-01 2019-05-10 2019-07-01 2019-08-01 2019-10-01 2020-06-01 "
        "2020-08-01 2020-10-01 2021-01-01 2021-04-01 2022-09-01 2023-07-01 2024-03-01 "
        "2024-07-01 2024-11-01 2025-03-01 2025-04-01"
    ),
    "microsoft.resources/subscriptions": (
        "2014-04-01 2015-11-01 2016-06-01 2018-06-01 2019-06-01 2019-11-01 2020-01-01 "
        "2021-01-01 2021-04-01 2022-09-01 2022-12-01 2023-07-01 2024-03-01 2024-07-01 "
        "2024-11-01 2025-03-01 2025-04-01"
    ),
    "microsoft.resources/templatespecs": "2019-06-01-preview 2021-03-01-preview 2021-05-01 2022-02-01",
    "microsoft.storage/storageaccounts": (
        "2015-05-01-preview 2015-06-15 2016-01-01 2016-05-01 2016-12-01 2017-06-01 2017-10-01 "
        "2018-02-01 2018-03-01-preview 2018-07-01 2018-11-01 2019-04-01 2019-06-01 "
        "2020-08-01-preview 2021-01-01 2021-02-01 2021-04-01 2021-06-01 2021-08-01 2021-09-01 "
        "2022-05-01 2022-09-01 2023-01-01 2023-04-01 2023-05-01 2024-01-01 2025-01-01 "
        "2025-06-01 2025-08-01 2026-04-01"
    ),
}
"""Every version of a type; those below it that have no line of their own share it."""
_SINCE = {
    "microsoft.cdn/profiles/afdendpoints": ("microsoft.cdn/profiles", "2020-09-01"),
    "microsoft.cdn/profiles/afdendpoints/routes": ("microsoft.cdn/profiles", "2020-09-01"),
    "microsoft.cdn/profiles/customdomains": ("microsoft.cdn/profiles", "2020-09-01"),
    "microsoft.cdn/profiles/origingroups": ("microsoft.cdn/profiles", "2020-09-01"),
    "microsoft.cdn/profiles/origingroups/origins": ("microsoft.cdn/profiles", "2020-09-01"),
    "microsoft.cdn/profiles/secrets": ("microsoft.cdn/profiles", "2020-09-01"),
    "microsoft.dbforpostgresql/flexibleservers/configurations": (
        "microsoft.dbforpostgresql/flexibleservers",
        "2020-02-14-preview",
    ),
    "microsoft.keyvault/deletedvaults": ("microsoft.keyvault/vaults", "2015-06-01"),
    "microsoft.keyvault/locations/deletedvaults": ("microsoft.keyvault/vaults", "2015-06-01"),
    "microsoft.keyvault/vaults/keys": ("microsoft.keyvault/vaults", "2019-09-01"),
    "microsoft.keyvault/vaults/secrets": ("microsoft.keyvault/vaults", "2016-10-01"),
    "microsoft.network/networksecuritygroups": (
        "microsoft.network/loadbalancers",
        "2015-05-01-preview",
    ),
    "microsoft.network/privatednszones/virtualnetworklinks": (
        "microsoft.network/privatednszones",
        "2018-09-01",
    ),
    "microsoft.network/privateendpoints/privatednszonegroups": (
        "microsoft.network/loadbalancers",
        "2020-03-01",
    ),
    "microsoft.network/privatelinkservices": (
        "microsoft.network/privateendpoints",
        "2018-10-01",
    ),
    "microsoft.network/publicipaddresses": (
        "microsoft.network/loadbalancers",
        "2015-05-01-preview",
    ),
    "microsoft.network/virtualnetworks": (
        "microsoft.network/loadbalancers",
        "2015-05-01-preview",
    ),
    "microsoft.network/virtualnetworks/subnets": (
        "microsoft.network/loadbalancers",
        "2015-05-01-preview",
    ),
    "microsoft.resources/deploymentstackswhatifresults": (
        "microsoft.resources/deploymentstacks",
        "2025-07-01",
    ),
    "microsoft.resources/tags": ("microsoft.resources/resourcegroups", "2019-10-01"),
    "microsoft.resources/templatespecs/versions": (
        "microsoft.resources/templatespecs",
        "2019-06-01-preview",
    ),
    "microsoft.storage/storageaccounts/blobservices": (
        "microsoft.storage/storageaccounts",
        "2018-07-01",
    ),
    "microsoft.storage/storageaccounts/blobservices/containers": (
        "microsoft.storage/storageaccounts",
        "2018-02-01",
    ),
}
"""Types that have all versions of another one, from a first one on."""
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}(-[a-z]+)?", re.IGNORECASE)


def versions_of(kind: str) -> tuple[str, ...]:
    """The versions of a type, newest first; of the longest name that is known."""
    steps = kind.lower().split("/")
    for length in range(len(steps), 0, -1):
        name = "/".join(steps[:length])
        owner, first = _SINCE.get(name, (name, ""))
        found = _VERSIONS.get(owner)
        if found is not None:
            known = [one for one in found.split() if one >= first]
            return tuple(sorted(known, reverse=True))
    return ()


def check_version(kind: str, version: str, location: str | None = None) -> None:
    """Refuse an API version that a type does not have; a type not known here is let through.

    Raises:
        ArmError: `InvalidApiVersionParameter` for the Resource Manager's own types and for
            what is no version, else `NoRegisteredProviderFound`.
    """
    known = versions_of(kind)
    if version.lower() in known:
        return
    own = kind.lower().startswith("microsoft.resources/")
    if own or not _DATE.fullmatch(version):
        raise ArmError(
            "InvalidApiVersionParameter",
            f"The api-version '{version}' is invalid. The supported versions are "
            f"'{','.join(known)}'.",
        )
    if not known:
        return
    raise ArmError(
        "NoRegisteredProviderFound",
        f"No registered resource provider found for location '{location or 'global'}' and API "
        f"version '{version}' for type '{kind.partition('/')[2]}'. The supported api-versions "
        f"are '{', '.join(reversed(known))}'. The supported locations are "
        f"'{', '.join(REGIONS)}'.",
    )
