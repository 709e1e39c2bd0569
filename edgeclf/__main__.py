"""`python -m edgeclf`: the command line, where its console script is not on the path."""

from edgeclf.cli import main

main()
