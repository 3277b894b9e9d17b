"""`python -m upcheck.cli`, for where no `upcheck` is on the PATH."""

from upcheck.cli import main

main()
