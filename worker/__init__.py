"""The worker that puts idle sessions to sleep in Cloud Storage and wakes them up."""
