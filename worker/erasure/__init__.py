"""How sessions are removed for good.

A purge goes from its order to its receipt: list -> write down -> remove -> recheck -> receipt. `erase` alone finishes
what a clear has begun.
"""
