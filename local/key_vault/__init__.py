"""A Key Vault on 127.0.0.1: what `azure-keyvault-secrets` and `azure-keyvault-keys` use, over TLS.

One process serves every vault of a home, each on a port of its own. Read `server.py` first.
"""
