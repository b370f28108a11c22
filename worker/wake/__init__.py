"""How a sleeping session wakes up, or is read without waking it."""
