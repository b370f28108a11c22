"""Clients of Redis and Valkey: how one is made, authenticated, told apart from others, and run to its end."""
