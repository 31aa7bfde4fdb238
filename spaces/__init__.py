"""The kernel: what a space is, how its row is kept, and everything that crosses a boundary."""
