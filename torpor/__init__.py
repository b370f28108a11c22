"""Chat sessions that sleep in Cloud Storage and wake up in Memorystore."""
