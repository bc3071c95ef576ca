"""`skiff-bench http`: both ways do the same work, and the table says what each of them took."""

import json
import re

import h11
import pytest

from model_tools.bench import cli
from model_tools.bench.strictness import LINE, a_gate, answer, in_chunks, sized, strict_answer

_DATE = re.compile(rb"Date: [^\r]*\r\n")


@pytest.mark.parametrize(
    "data", [sized(3), sized(2000), in_chunks(2000)], ids=["3", "2000", "chunks"]
)
def test_both_ways_answer_alike(data: bytes) -> None:
    protocol, strict = strict_answer(a_gate(), data)
    connection, alone = answer(data)
    assert _DATE.sub(b"", strict) == alone
    assert protocol.chunks((LINE,)) == connection.send(h11.Data(data=LINE))


def test_each_case_is_timed_in_both_ways(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["http", "-r", "2", "-n", "3", "-o", "json"])
    [rows] = json.loads(capsys.readouterr().out)["tables"].values()
    assert len(rows) == 4
    assert all(row["strict"] > 0 for row in rows)
