"""The program `skiff`, which is also `python -m server`."""

from server import startup
from server.interrupt import end_at_once

end_at_once()
startup.begin()

from server.cli import main  # noqa: E402 - now Ctrl-C in it is quiet

if __name__ == "__main__":
    main()
