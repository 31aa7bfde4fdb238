"""A stand-in for Azure's Functions host: loads `function_app.py`, fires its triggers.

The app is indexed and called through the real worker library, so what a function sees is what it
sees on Azure. Start it with `python -m local.functions_host`.
"""
