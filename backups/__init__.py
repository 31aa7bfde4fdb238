"""One backup per space per day, proved by restoring it; and the way back.

The reading order: `triggers`, `dispatch`, `run` and `restore` (the steps), `engine`, `bundle`.
"""
