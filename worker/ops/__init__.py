"""Reports for operators: the status of a deployment, inconsistencies in Redis, warnings about the bucket."""
