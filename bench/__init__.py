"""The numbers we publish, each a ratio or a rate within one run."""
