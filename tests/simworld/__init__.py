"""A world in one thread: the real functions, fakes of every port, virtual time, seeded chance.

Source: control-plane.md 4.3 and amendments 9 to 13. `world` puts it together, `actions` is what can
happen in it, `invariants` what must hold.
"""
