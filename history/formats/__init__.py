"""Formats of other libraries: one class a format, which alone knows the keys, the order and the elements.

docs/formats.md says how to add one.
"""
