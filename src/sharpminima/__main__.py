"""``python -m sharpminima`` is the ``sharpminima`` command."""

from sharpminima.cli import main

main()
