"""Proofs through the command alone: a database and a folder, damaged stores, killed runs."""
