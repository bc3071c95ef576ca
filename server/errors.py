"""Exceptions that cross packages. Knows no other module of Skiff.

`ClientError` is the client's fault: it has a status and a sentence that is safe to show.
`StartError` is the operator's: one line on the terminal, exit code 1. `Interrupted` is nobody's:
the process was told to stop. `DeviceLost` ends the process as well. `Refusal` (http) and `NotTaken`
(engine) are answers, too. Anything else that reaches a handler is a bug: it is logged with a
traceback, and the client sees a fixed sentence.
"""


class ClientError(Exception):
    """The request cannot be served as it was sent.

    `status` is an HTTP status (400 to 499); `sentence` names the field and the reason, and never
    shows a path, an address or a traceback.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


class Interrupted(Exception):
    """A call into the model was interrupted because the process is shutting down."""


class DeviceLost(Exception):
    """The device no longer works for this process: each further call would fail, too."""


class StartError(Exception):
    """The process cannot do what its command line asked; the message is the line to print."""
