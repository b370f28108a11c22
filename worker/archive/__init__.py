"""The archive: object names, segments and their metadata, a session's contents, ownership, and the stores."""
