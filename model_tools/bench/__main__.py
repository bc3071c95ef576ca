"""The program `skiff-bench`, which is also `python -m model_tools.bench`."""

from server.interrupt import end_at_once

end_at_once()

from model_tools.bench.cli import main  # noqa: E402 - now Ctrl-C in it is quiet

if __name__ == "__main__":
    main()
