"""How a due session goes to sleep: found, claimed, uploaded, verified, and only then deleted from Redis."""
