"""The cloud on one machine: the endpoints that Azure would offer; the product is not known here."""
