"""What operators need: the status of a deployment, inconsistencies in Redis, warnings about the bucket, identities."""
