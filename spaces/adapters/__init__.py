"""Thin adapters: one Azure SDK client behind each port of `spaces.ports`; third-party types end here."""
