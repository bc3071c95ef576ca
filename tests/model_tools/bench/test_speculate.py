"""`skiff-bench speculate`: its prompts, its pairs, and what is printed of them."""

import json
from pathlib import Path

import pytest

from model_tools.bench import cli
from model_tools.bench.report.spread import Middle
from model_tools.bench.speculate.command import Measured, Pair
from model_tools.bench.speculate.prompts import COMMITTED, Kind, Prompt, read_prompts
from model_tools.bench.speculate.runner import Answer
from server.errors import StartError
from tests.model.tiny_folder import tiny_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("speculate") / "tiny", "int8")


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    content = {
        "template": "<{}>",
        "editing": [{"name": "again", "text": "one two one two one two"}],
        "free": [{"name": "on", "text": "a b c"}],
    }
    file = tmp_path / "prompts.json"
    file.write_text(json.dumps(content))
    return file


def test_there_are_20_prompts_of_each_kind() -> None:
    prompts = read_prompts(COMMITTED)
    for kind in Kind:
        assert sum(prompt.kind is kind for prompt in prompts) == 20
    assert len({prompt.text for prompt in prompts}) == len({each.name for each in prompts}) == 40


def test_prompts_are_put_into_the_template(prompts: Path) -> None:
    assert read_prompts(prompts) == [
        Prompt(Kind.EDITING, "again", "<one two one two one two>"),
        Prompt(Kind.FREE, "on", "<a b c>"),
    ]


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"template": "{}", "editing": [1], "free": []}', "[" * 100_000]
)
def test_other_files_are_one_line(tmp_path: Path, content: str) -> None:
    file = tmp_path / "prompts.json"
    file.write_text(content)
    with pytest.raises(StartError, match=r"^[^\n]*prompts\.json: must be JSON with a template"):
        read_prompts(file)
    with pytest.raises(StartError, match=r"^[^\n]*nowhere: No such file"):
        read_prompts(tmp_path / "nowhere")


@pytest.mark.parametrize("longest", ["0", "100"])
def test_drafts_are_as_long_as_the_servers_may_be(longest: str) -> None:
    with pytest.raises(SystemExit, match="--speculate: must be an integer from 1 to 30"):
        cli.main(["speculate", "--speculate", longest])


def test_answers_that_are_too_long_are_one_line(folder: Path, prompts: Path) -> None:
    reason = r"a prompt of \d+ tokens and 3001 new ones are more than the context of \d+$"
    with pytest.raises(SystemExit, match=reason):
        cli.main(["speculate", str(folder), "--prompts", str(prompts), "-n", "3000"])


def test_a_ratio_is_that_of_answers_right_after_each_other() -> None:
    plain = [Answer(tokens=60, seconds=seconds, drafted=0, accepted=0) for seconds in (1, 2, 3)]
    drafting = [
        Answer(tokens=60, seconds=seconds, drafted=10, accepted=5) for seconds in (0.5, 2, 0.75)
    ]
    measured = Measured(Prompt(Kind.EDITING, "again", ""), tuple(map(Pair, plain, drafting)))
    assert measured.row == ("again", 60, 30, 80, Middle(2, 1, 4), 30, 0.5)


def test_an_answer_that_ends_with_its_first_token_has_no_rate() -> None:
    one, none = (Answer(tokens=tokens, seconds=1, drafted=0, accepted=0) for tokens in (1, 0))
    assert Pair(one, one).has_rates
    assert not Pair(one, none).has_rates
    assert not Pair(none, one).has_rates


def test_the_command_prints_a_table_of_each_kind(
    folder: Path, prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--prompts", str(prompts), "-n", "30", "-r", "2", "-t", "1", "--speculate", "4"]
    cli.main(["speculate", str(folder), *flags, "-o", "json"])
    editing, free = json.loads(capsys.readouterr().out)["tables"].values()
    assert [row["prompt"] for row in editing] == ["again", "median, or all"]
    assert [row["prompt"] for row in free] == ["on", "median, or all"]
    assert all(row["plain t/s"] > 0 and row["drafting t/s"] > 0 for row in [*editing, *free])
