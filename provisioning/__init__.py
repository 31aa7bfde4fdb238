"""From a paid event to a reachable URL, and back again when it cannot be done."""
