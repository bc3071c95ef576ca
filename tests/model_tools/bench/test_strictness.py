"""`skiff-bench http`: both ways do the same work, and the table says what each of them took."""

import json
import re
from functools import partial

import h11
import pytest

from model_tools.bench import cli, strictness
from model_tools.bench.strictness import (
    LINE,
    Case,
    a_gate,
    answer,
    cases,
    in_chunks,
    refusal,
    sized,
    strict_answer,
    unended,
)
from server.config import Limits

_DATE = re.compile(rb"Date: [^\r]*\r\n")


@pytest.mark.parametrize(
    "data", [sized(3), sized(2000), in_chunks(2000)], ids=["3", "2000", "chunks"]
)
def test_both_ways_answer_alike(data: bytes) -> None:
    protocol, strict = strict_answer(a_gate(), data)
    connection, alone = answer(data)
    assert _DATE.sub(b"", strict) == alone
    assert protocol.chunks((LINE,)) == connection.send(h11.Data(data=LINE))


def test_both_ways_refuse_the_largest_body_at_its_end() -> None:
    data = unended()
    body = data.partition(b"\r\n\r\n")[2]
    assert Limits().body_bytes - 1 <= len(body) <= Limits().body_bytes
    assert "malformed JSON" in refusal(partial(strict_answer, a_gate(), data))
    assert "Unterminated string" in refusal(partial(answer, data))


def test_the_ways_take_turns_at_being_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log: list[str] = []
    case = Case("work", partial(log.append, "strict"), partial(log.append, "alone"))
    monkeypatch.setattr(strictness, "cases", lambda: [case])
    cli.main(["http", "-r", "2", "-n", "1"])
    assert log == ["strict", "alone", "alone", "strict", "strict", "alone"]


def test_each_case_has_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["http", "-r", "2", "-n", "3", "-o", "json"])
    [rows] = json.loads(capsys.readouterr().out)["tables"].values()
    assert [row["what"] for row in rows] == [case.name for case in cases()]
