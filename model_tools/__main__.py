"""`python -m model_tools` is `skiff-export`."""

from model_tools.cli import main

main()
