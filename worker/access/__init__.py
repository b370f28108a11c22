"""What a person has here: lists of sessions, and copies of all of an owner's as the answer to a request for access."""
