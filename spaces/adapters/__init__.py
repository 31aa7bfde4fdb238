"""Thin adapters: one Azure SDK client behind each port; third-party types end here."""
