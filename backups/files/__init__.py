"""The files of a space: captured from a folder or a container, kept as chunks, put back.

The reading order: `model`, `walk`, `capture`, `contents`, `index`, `restore`.
"""
