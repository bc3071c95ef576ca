"""The answer to a request that reaches no handler. Knows messages only."""

from server.http.messages import Headers


class Refusal(Exception):
    """The request is answered with `status` and `sentence`.

    The connection survives only if the whole request was read and understood before.
    """

    def __init__(self, status: int, sentence: str, headers: Headers = ()) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.headers = headers
