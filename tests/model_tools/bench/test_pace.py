"""`skiff-bench pace` on a tiny model: what it prints, keeps and draws."""

import json
from pathlib import Path
from unittest.mock import Mock

import pytest

from model_tools.bench import cli
from model_tools.bench.pace import FIRST, GAPS
from model_tools.bench.report.saved import load
from model_tools.export import export
from server.engine.sampling import Sampler
from tests.model_tools.tiny_gguf import TinyLlama


def folder(place: Path, context: int) -> str:
    gguf = TinyLlama(context_length=context).write(place / "tiny.gguf")
    export(gguf, place / "folder", verify=False)
    return str(place / "folder")


def test_each_stretch_has_a_row_and_a_point(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, drawn = tmp_path / "run.json", tmp_path / "run.svg"
    asked = ["--stretch", "1.5,4", "--streams", "2", "--prompt", "60", "-r", "2", "-t", "1"]
    files = ["--save", str(kept), "--plot", str(drawn)]
    cli.main(["pace", folder(tmp_path, 512), *asked, *files, "-o", "json"])
    [rows] = json.loads(capsys.readouterr().out)["tables"].values()
    assert [row["stretch"] for row in rows] == ["1.5", "4"]
    series = load(kept).series
    assert [(each.at, each.measure) for each in series] == [
        (1.5, GAPS),
        (1.5, FIRST),
        (4, GAPS),
        (4, FIRST),
    ]
    assert all(len(each.samples) == 2 and min(each.samples) > 0 for each in series)
    assert "stretch 1.5" in drawn.read_text()


@pytest.mark.parametrize(
    ("context", "flags", "reason"),
    [
        (128, ["--prompt", "100"], "--prompt: the model's context has 128 tokens"),
        (128, ["--prompt", "20"], "the model's context of 128 tokens is full"),
        (512, ["--stretch", "1"], "--stretch: must be a number above 1, not '1'"),
        (512, ["--stretch", "2,x"], "--stretch: must be a number above 1, not 'x'"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    tmp_path: Path, context: int, flags: list[str], reason: str
) -> None:
    with pytest.raises(SystemExit, match="skiff-bench: ") as ended:
        cli.main(["pace", folder(tmp_path, context), *flags])
    assert reason in str(ended.value)


def test_logits_that_are_no_numbers_are_not_taken_for_a_full_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sampler, "choose", Mock(return_value=None))
    with pytest.raises(SystemExit, match=r"^skiff-bench: The model failed on this request$"):
        cli.main(["pace", folder(tmp_path, 512), "--prompt", "60"])
