"""The program `skiff`, which is also `python -m server`."""

import signal

# Before all else: the imports below take tenths of a second, and Ctrl-C in them shows a traceback.
# From here on it ends the process where it stands, until the server itself listens for it.
signal.signal(signal.SIGINT, signal.SIG_DFL)

from server.cli import main  # noqa: E402 - see above

if __name__ == "__main__":
    main()
