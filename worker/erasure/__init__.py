"""How sessions are removed for good: a purge from its order to its receipt; what a clear has left to erase."""
