"""The front door: one http port, a space's name leads to that space's healthy instances.

Read `server.py` first; `routes.py` is all that others write to.
"""
