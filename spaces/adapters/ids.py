"""Chance, from the system's source of randomness."""

from __future__ import annotations

import secrets

ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


class SystemIds:
    """Unguessable names and passwords."""

    def token(self, size: int) -> str:
        """`size` characters out of `a-z2-7`, 5 bits each."""
        return "".join(secrets.choice(ALPHABET) for _ in range(size))

    def secret(self) -> str:
        """32 random bytes as urlsafe text.

        Begins with a letter (no option, no quoting) and holds upper case, lower case and a digit,
        as the rules for administrators' passwords want it; what does not is drawn again.
        """
        while True:
            text = secrets.token_urlsafe(32)
            if (
                text[0].isalpha()
                and any(c.isdigit() for c in text)
                and any(c.isupper() for c in text)
                and any(c.islower() for c in text)
            ):
                return text
