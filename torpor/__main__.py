"""`python -m torpor` is the `torpor` command."""

from torpor.worker.cli import main

main()
