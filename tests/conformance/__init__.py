"""One suite per port, run on the fake and on the real thing, so that the fake cannot drift."""
