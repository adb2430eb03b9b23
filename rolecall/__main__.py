"""Run the command line as `python -m rolecall`."""

from rolecall.cli import main

main()
