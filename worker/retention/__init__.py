"""How long the archive keeps sessions: custom times of objects, and legal holds."""
