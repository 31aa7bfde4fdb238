"""The cloud on one machine: the endpoints that Azure would offer; nothing of the product is known here."""
