"""The program `skiff-export`, which is also `python -m model_tools`."""

from server.interrupt import end_at_once

end_at_once()

from model_tools.cli import main  # noqa: E402 - now Ctrl-C in it is quiet

if __name__ == "__main__":
    main()
