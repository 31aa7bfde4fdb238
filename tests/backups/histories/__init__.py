"""Random SQL histories of a database, each of whose snapshots is restored and compared."""
