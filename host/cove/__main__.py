"""`python -m cove`: the same as the `cove` command."""

from cove.cli.main import main

main()
