"""The `skiff` command: runs the server, or the doctor.

Knows these two; reads no flag.
"""

import os
import sys

from server import app
from server.command_line import read, read_doctor
from server.program import program

DOCTOR = "doctor"
"""A first argument that is a command of its own."""


def main() -> None:
    """Runs the command and ends the process."""
    arguments = sys.argv[1:]
    with program("skiff"):
        if arguments[:1] == [DOCTOR]:
            from server import doctor  # which looks for CUDA: see `model.opening`

            sys.exit(doctor.run(read_doctor(arguments[1:], os.environ)))
        app.run(read(arguments, os.environ))
