"""Waking sessions up, and reading them without waking them."""
