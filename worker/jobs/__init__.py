"""Jobs: work that is too much for one process, and that several do together. Purges are jobs, too.

An order in the archive -> one process lists the units and writes them down in batches -> each batch is done once ->
the conclusion, a document, and the order goes. Whoever is killed leaves all of this to the next one.
"""
