"""The audit trail: what people have done with sessions by the command. It lies in the archive, without any text."""
