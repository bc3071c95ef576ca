"""The command line and the environment, read into a configuration; every mistake is one line."""

import argparse
import re
from pathlib import Path

import pytest

from server import __version__, command_line
from server.config import (
    CPU,
    Access,
    Address,
    Device,
    DeviceKind,
    DoctorConfig,
    EngineChoice,
    EngineLimits,
    Limits,
    LogFormat,
    PrefixCacheConfig,
    PrefixReuse,
    SamplingChoice,
    SamplingParameters,
    Serving,
    UnixAddress,
)
from server.errors import StartError
from server.options.flag import Flag, Repeatable
from server.options.values import address, device, size, size_text

EVERY_FLAG = [flag for group in command_line.GROUPS for flag in group.flags.values()]


def refused(*arguments: str, **environment: str) -> str:
    with pytest.raises(StartError) as caught:
        command_line.read(arguments, environment)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_without_flags_the_defaults_hold() -> None:
    config = command_line.read(["model"], {})
    assert config.model_folder == Path("model")
    assert config.serving.inference_address == Address("127.0.0.1", 8061)
    assert config.serving.log_level == "info"
    assert config.serving.log_format is LogFormat.TEXT
    engine = config.engine
    assert (engine.slots, engine.context, engine.ignore_eos) == (4, None, False)
    assert engine.speculate == 0
    assert engine.device is None
    assert engine.cuda_graphs
    assert engine.kv_bytes is None
    assert engine.threads >= 1
    assert config.prefix_cache == PrefixCacheConfig(PrefixReuse.PROMPTS, 256 * 2**20)
    assert config.limits == Limits()
    assert config.engine_limits == EngineLimits()
    assert config.sampling == SamplingChoice()


def test_flags_are_read() -> None:
    line = (
        "model --inference-address [::1]:0 --slots 8 --context 512 --threads 3 --ignore-eos"
        " --log-level debug --log-format json --temperature 0.5 --top-k 40 --top-p 0.9 --min-p 0.1"
        " --repetition-penalty 1.1 --seed 7 --max-body-size 1MiB --idle-timeout 2.5"
        " --max-connections 9 --gap-stretch 1.5 --speculate 9 --prefix-cache off"
        " --prefix-cache-mib 3 --device cuda:1 --kv-mib 5 --no-cuda-graphs"
    )
    config = command_line.read(line.split(), {})
    assert config.serving == Serving(Address("::1", 0), "debug", LogFormat.JSON)
    cuda = Device(DeviceKind.CUDA, 1)
    assert config.engine == EngineChoice(
        slots=8,
        context=512,
        device=cuda,
        kv_bytes=5 * 2**20,
        cuda_graphs=False,
        threads=3,
        gap_stretch=1.5,
        speculate=9,
        ignore_eos=True,
    )
    assert config.prefix_cache == PrefixCacheConfig(PrefixReuse.OFF, 3 * 2**20)
    assert config.limits == Limits(body_bytes=2**20, idle_seconds=2.5, connections=9)
    assert config.sampling == SamplingChoice(0.5, 40, 0.9, 0.1, 1.1, 7)


@pytest.mark.parametrize("flag", EVERY_FLAG, ids=lambda flag: flag.name)
def test_the_environment_says_what_a_flag_says(flag: Flag[object]) -> None:
    special = {
        "inference-address": "0.0.0.0:80",
        "log-level": "error",
        "log-format": "json",
        "prefix-cache": "all",
        "top-p": "0.5",
        "min-p": "0.5",
        "device": "cuda:2",
        "ignore-eos": "on",
        "no-cuda-graphs": "on",
        "cors-origin": "http://a,https://b:81",
        "max-target-size": "1KiB",
        "max-header-size": "1KiB",
    }
    value = special.get(flag.name, "2")
    by_flag = command_line.read(["model", f"--{flag.name}", *([value] if flag.metavar else [])], {})
    by_variable = command_line.read(["model"], {flag.variable: value})
    assert by_flag == by_variable
    assert by_flag != command_line.read(["model"], {}) or flag.name == "threads"


def test_a_flag_wins_over_its_variable() -> None:
    assert command_line.read(["model", "--slots", "2"], {"SKIFF_SLOTS": "3"}).engine.slots == 2
    assert (
        command_line.read(["model", "--slots", "2"], {"SKIFF_SLOTS": "rubbish"}).engine.slots == 2
    )


def test_a_flag_may_be_repeated() -> None:
    repeated = ["--allowed-host", "a.example", "--allowed-host", "[::1]", "--allowed-host=b, *"]
    access = command_line.read(["model", *repeated], {"SKIFF_ALLOWED_HOST": "c"}).access
    assert access.allowed_hosts == ("a.example", "::1", "b", "*")
    assert command_line.read(["model"], {"SKIFF_ALLOWED_HOST": "c, d"}).access.allowed_hosts == (
        "c",
        "d",
    )
    assert command_line.read(["model"], {}).access == Access(None, (), (), None, None)


def test_an_empty_variable_says_nothing() -> None:
    assert (
        command_line.read(["model"], {"SKIFF_SLOTS": "", "SKIFF_IGNORE_EOS": ""}).engine.slots == 4
    )


@pytest.mark.parametrize(("word", "means"), [("1", True), ("true", True), ("0", False)])
def test_a_switch_is_a_word_in_the_environment(word: str, means: bool) -> None:
    assert command_line.read(["model"], {"SKIFF_IGNORE_EOS": word}).engine.ignore_eos is means


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("127.0.0.1:8061", Address("127.0.0.1", 8061)),
        ("localhost:0", Address("localhost", 0)),
        ("[::]:65535", Address("::", 65535)),
        ("unix:/run/a b:1", UnixAddress("/run/a b:1")),
    ],
)
def test_an_address_is_read_and_written_alike(text: str, means: Address | UnixAddress) -> None:
    assert address(text) == means
    assert str(means) == text


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("cpu", CPU),
        ("cuda:0", Device(DeviceKind.CUDA)),
        ("cuda:3", Device(DeviceKind.CUDA, 3)),
    ],
)
def test_a_device_is_read_and_written_alike(text: str, means: Device) -> None:
    assert device(text) == device(text.upper()) == means
    assert str(means) == text


def test_a_device_may_be_left_to_skiff_or_be_the_first_of_its_kind() -> None:
    assert device("auto") is None
    assert device("cuda") == Device(DeviceKind.CUDA, 0)


@pytest.mark.parametrize(
    ("text", "means"), [("1", 1), ("300", 300), ("16KiB", 2**14), ("2MiB", 2**21)]
)
def test_a_size_is_read_and_written_alike(text: str, means: int) -> None:
    assert size(1, 2**30)(text) == means
    assert size_text(means) == text


@pytest.mark.parametrize(
    "text",
    [
        "8061",
        ":8061",
        "host:",
        "host:x",
        "host:65536",
        "host:-1",
        "host:" + "99999".zfill(29),
        "::1:8061",
        "[]:1",
        "[a]:1",
        "unix:",
        "unix:/" + "a" * 107,
    ],
)
def test_a_bad_address_is_refused(text: str) -> None:
    assert re.search("HOST:PORT|unix:PATH", refused("model", "--inference-address", text))


@pytest.mark.parametrize(
    ("flag", "values"),
    [
        ("slots", ["0", "-1", "1025", "four", "4.0", "1e3", "²", "9" * 5000]),
        ("context", ["0", "1", "-4096"]),
        ("device", ["gpu", "cuda:", "cuda:-1", "cuda:x", "cuda:12345", "cpu:0", "cuda:²"]),
        ("threads", ["0", "x"]),
        ("temperature", ["-0.1", "nan", "inf", "warm"]),
        ("top-k", ["-1", "1.5"]),
        ("top-p", ["0", "1.01"]),
        ("min-p", ["-0.1", "2"]),
        ("repetition-penalty", ["0", "-1"]),
        ("seed", ["-1", "0.5"]),
        ("log-level", ["loud"]),
        ("speculate", ["-1", "31", "many"]),
        ("gap-stretch", ["1", "0.5", "-2", "inf"]),
        ("prefix-cache", ["on", "0"]),
        ("prefix-cache-mib", ["-1", "1.5", "256M"]),
        (
            "cors-origin",
            ["*", "null", "http://a/", "a.example", "http://A", "http://a:80", "http://a,"],
        ),
        (
            "cors-origin",
            ["https://a:443", "http://a b", "http://a?b", "http://u@a", "http://a\r\nX: y"],
        ),
        ("allowed-host", ["a:80", "http://a", "a/b", "a,,b", "::1"]),
        ("max-body-size", ["0", "1KB", "1.5MiB", "-1", "2GiB", "9" * 5000, "²"]),
        ("max-header-fields", ["0", "many"]),
        ("head-timeout", ["0", "-1", "inf", "86401", "10s"]),
    ],
)
def test_a_bad_value_names_the_flag_or_variable_that_has_it(flag: str, values: list[str]) -> None:
    variable = "SKIFF_" + flag.upper().replace("-", "_")
    for value in values:
        assert refused("model", f"--{flag}={value}").startswith(f"--{flag} must be ")
        assert refused("model", **{variable: value}).startswith(f"{variable} must be ")


def test_reserved_words_are_no_folders() -> None:
    assert "./inspect" in refused("inspect")
    assert command_line.read(["./inspect"], {}).model_folder == Path("inspect")


def test_the_doctor_takes_a_device_and_a_folder() -> None:
    assert command_line.read_doctor([], {}) == DoctorConfig(None, None)
    asked = command_line.read_doctor(["--device", "cpu", "model"], {"SKIFF_DEVICE": "cuda"})
    assert asked == DoctorConfig(CPU, Path("model"))
    assert command_line.read_doctor([], {"SKIFF_DEVICE": "cuda"}).device == Device(DeviceKind.CUDA)


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["a", "--nonsense"], ["a", "--slot", "1"]])
def test_a_wrong_command_line_is_one_line(arguments: list[str]) -> None:
    assert "--help" in refused(*arguments)


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        command_line.read(["--version"], {})
    assert capsys.readouterr().out == f"skiff {__version__}\n"


def test_help_shows_each_flag_with_its_variable_and_default() -> None:
    text = re.sub(r"\s+", " ", command_line.parser().format_help())
    for flag in EVERY_FLAG:
        value = f" {flag.metavar}" if flag.metavar else ""
        words = " ".join(flag.help.split())
        repeats = " (repeatable)" if isinstance(flag, Repeatable) else ""
        shown = f"--{flag.name}{value} {words}{repeats} [{flag.variable}, default: {flag.default}]"
        assert shown in text


@pytest.mark.parametrize("kind", [Flag, Repeatable])
def test_help_may_have_a_percent_sign(kind: type[Flag[str]]) -> None:
    parser = argparse.ArgumentParser()
    kind("share", "X", str, "5 % of it", "10 %").add_to(parser)
    text = " ".join(parser.format_help().split())
    assert "--share X 5 % of it" in text
    assert "[SKIFF_SHARE, default: 10 %]" in text


def test_what_was_said_about_sampling_goes_over_what_the_folder_says() -> None:
    folder = SamplingParameters(temperature=0.6, top_k=50, top_p=0.9)
    assert SamplingChoice().over(folder) == folder
    assert SamplingChoice(temperature=0.0, seed=3).over(folder) == SamplingParameters(
        temperature=0.0, top_k=50, top_p=0.9, seed=3
    )
