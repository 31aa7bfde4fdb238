"""The steps that open a space: one module each, one idempotent effect with a deadline each."""
