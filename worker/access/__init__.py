"""Who has what: lists of sessions for people."""
