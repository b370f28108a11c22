"""How a due session goes to sleep: it is uploaded, verified in the archive, and only then deleted from Redis.

sweep -> drain -> pool -> attempt -> upload, then the commit in Redis.
"""
