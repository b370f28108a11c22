"""What each page of the console does with a visit; `serving/page_table.py` has their paths and permissions."""
