"""The archive's format: object names, segments, what it holds of a session, whose it is; stores."""
