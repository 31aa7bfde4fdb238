"""The backup engine beside restic, borg and plain pipes, on one space, in one interleaved run."""
