"""The audit trail: what people have done with sessions, by the command or the console.

It lies in the archive, without any text.
"""
