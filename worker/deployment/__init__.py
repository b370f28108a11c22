"""One deployment, connected: its settings, Redis, the archive, the broker, and what they all share."""
