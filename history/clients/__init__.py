"""Clients of Redis and Valkey: how to connect one, authenticate it, recognise its kind, and use it in blocking code."""
