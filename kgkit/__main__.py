"""`python -m kgkit`: the same as the `kgkit` script."""

from kgkit.cli.main import main

main()
