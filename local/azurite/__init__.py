"""Blob and table storage: the pinned npm package Azurite, unmodified, with accounts at run time."""

from local.azurite.accounts import Account, AzuriteAccounts

__all__ = ["Account", "AzuriteAccounts"]
