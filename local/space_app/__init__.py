"""A stand-in for the KPAX server software: the small application that a space runs locally.

It has what makes backups, restores and zones worth showing: a schema of its own in the space's
database, attachments in the space's container, settings from the space's vault. It knows nothing
of the control plane. Read `instance.py` (one process), then `app.py` (what it answers).
"""
