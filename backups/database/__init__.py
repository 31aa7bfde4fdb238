"""A PostgreSQL database as segments: captured by what changed, restored exactly.

`capture.capture` and `restore.restore` are the two doors; `model.DatabasePart` is what a manifest
keeps between them.
"""
