"""The works that jobs do: each module says how one of them is listed, done in batches, and concluded."""
