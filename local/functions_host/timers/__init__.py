"""Timer triggers: when they fire, what is remembered of it, the loop that fires them."""
