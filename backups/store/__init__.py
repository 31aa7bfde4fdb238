"""The store of the block-range engine: create-only objects, sealed packs, chained manifests.

The reading order: `objects` (the port), `keys`, `frames`, `packs`, `manifest`, `snapshots`,
`journal`, `lease`. Nothing here knows what a database or a folder is. Layout, byte by byte:
docs/backup-format.md.
"""
