"""`python -m server` is `skiff`."""

from server.cli import main

if __name__ == "__main__":
    main()
