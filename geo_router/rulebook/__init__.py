"""Rules as data: read the files people edit, compile them, and check that nothing got lost.

Nothing here is loaded while a request is answered; YAML costs more than the whole decision.
"""
