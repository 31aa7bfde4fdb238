"""`python -m local.key_vault`: serve the home's vaults until SIGTERM."""

from __future__ import annotations

from local.home import Home
from local.key_vault.server import KeyVaultServer
from local.serving import run_part

if __name__ == "__main__":
    run_part("key_vault", lambda: KeyVaultServer(Home.open()))
