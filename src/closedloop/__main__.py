"""`python -m closedloop` is the command line."""

from closedloop.edge.cli.main import main

main()
