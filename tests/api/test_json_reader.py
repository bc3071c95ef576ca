"""Strict JSON: what is read is what `json` reads, and what is refused names the field and why."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.api.json_reader import Field, Integer, String, read_object
from server.errors import ClientError

COUNT = Field("count", Integer(-5, 2**31 - 1), "How many.")
NAME = Field("name", String(), "Whose.")
FIELDS = (COUNT, NAME)


def read(body: bytes) -> tuple[int, str]:
    values = read_object(body, FIELDS)
    return values[COUNT], values[NAME]


def refusal(body: bytes) -> str:
    with pytest.raises(ClientError) as caught:
        read(body)
    assert caught.value.status == 400
    assert "\n" not in caught.value.sentence
    assert len(caught.value.sentence) < 200
    return caught.value.sentence


unicode_text = st.text(st.characters(exclude_categories=["Cs"]))


@given(
    st.integers(-5, 2**31 - 1),
    unicode_text,
    st.booleans(),
    st.sampled_from([None, 1, "\t", " \n\r\t"]),
    st.booleans(),
)
def test_what_json_writes_is_read(
    count: int, name: str, ascii_only: bool, indent: int | str | None, turned: bool
) -> None:
    pairs = [("count", count), ("name", name)]
    text = json.dumps(dict(pairs[:: -1 if turned else 1]), ensure_ascii=ascii_only, indent=indent)
    assert read(text.encode()) == (count, name)


PIECES = [
    *'{}[]:,"\\/ \t\n-+.eE0159tfnu',
    '"count"',
    '"name"',
    '"a"',
    "\\u0041",
    "\\ud83d\\ude00",
    "\\ud83d",
    "true",
    "null",
    "NaN",
    "-Infinity",
    "1e999",
    "\ufeff",
    "\x00",
    "é",
]
almost_json = st.one_of(
    st.lists(st.sampled_from(PIECES)).map("".join),
    st.builds(
        lambda value, name, more: f'{{"count":{value},"name":{name}{more}}}',
        st.lists(st.sampled_from(PIECES), max_size=4).map("".join),
        st.lists(st.sampled_from(PIECES), max_size=4).map(lambda parts: f'"{"".join(parts)}"'),
        st.lists(st.sampled_from(PIECES), max_size=2).map("".join),
    ),
)


@given(almost_json)
def test_nothing_is_read_that_json_does_not_read_alike(text: str) -> None:
    try:
        count, name = read(text.encode())
    except ClientError:
        return
    assert json.loads(text) == {"count": count, "name": name}


@given(st.binary())
def test_garbage_is_refused_and_nothing_else(body: bytes) -> None:
    refusal(body)


def with_count(value: bytes) -> bytes:
    return b'{"count": %b, "name": ""}' % value


def with_name(value: bytes) -> bytes:
    return b'{"count": 1, "name": %b}' % value


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "malformed JSON: expected a JSON object at character 0"),
        (b"\xef\xbb\xbf{}", "malformed JSON: expected a JSON object at character 0"),
        (b'{"name": "\xff"}', "the body is not UTF-8 at byte 10"),
        (b'{"name": "\xed\xa0\x80"}', "the body is not UTF-8 at byte 10"),
        ('{"count": 1}'.encode("utf-16"), "the body is not UTF-8 at byte 0"),
        (b"[]", "the body: must be a JSON object, not an array"),
        (b"null", "the body: must be a JSON object, not null"),
        (b"{}", "count: is missing"),
        (b'{"count": 1}', "name: is missing"),
        (b'{"name": ""', "malformed JSON: expected ',' or '}' at character 11"),
        (b'{"name": "",}', "malformed JSON: expected a string at character 12"),
        (b'{"name" "a"}', "malformed JSON: expected ':' at character 8"),
        (b"{count: 1}", "malformed JSON: expected a string at character 1"),
        (b'{1: "a"}', "a field's name: must be a string, not a number"),
        (b'{"temperature": 1, "name": ""}', '"temperature": is not a known field'),
        (b'{"Count": 1, "name": ""}', '"Count": is not a known field'),
        ('{"é\\n": 1}'.encode(), '"\\u00e9\\n": is not a known field'),
        (b'{"count": 1, "count": 1}', "count: is given twice"),
        (b'{"count": 1, "\\u0063ount": 1}', "count: is given twice"),
        (with_name(b'""') + b"{}", "malformed JSON: expected nothing more at character 24"),
        (with_count(b"true"), "count: must be an integer, not a boolean"),
        (with_count(b'"1"'), "count: must be an integer, not a string"),
        (with_count(b"null"), "count: must be an integer, not null"),
        (with_count(b"[1]"), "count: must be an integer, not an array"),
        (with_count(b"1.0"), "count: must be an integer, without fraction or exponent"),
        (with_count(b"1e0"), "count: must be an integer, without fraction or exponent"),
        (with_count(b"1e999"), "count: must be an integer, without fraction or exponent"),
        (with_count(b"-6"), "count: must be between -5 and 2147483647"),
        (with_count(b"2147483648"), "count: must be between -5 and 2147483647"),
        (with_count(b"9" * 100_000), "count: must be between -5 and 2147483647"),
        (with_count(b"01"), "malformed JSON: expected ',' or '}' at character 11"),
        (with_count(b"+1"), "malformed JSON: expected an integer at character 10"),
        (with_count(b"-"), "malformed JSON: expected a number at character 10"),
        (with_count(b"1."), "malformed JSON: expected ',' or '}' at character 11"),
        (with_count(b"NaN"), "malformed JSON: expected an integer at character 10"),
        (with_count(b"Infinity"), "malformed JSON: expected an integer at character 10"),
        (with_count(b"\xd9\xa1"), "malformed JSON: expected an integer at character 10"),
        (with_count(b""), "malformed JSON: expected an integer at character 10"),
        (with_name(b"1"), "name: must be a string, not a number"),
        (with_name(b"{}"), "name: must be a string, not an object"),
        (with_name(b'"\\ud800"'), "name: holds half of a surrogate pair"),
        (with_name(b'"\\ud83d \\ude00"'), "name: holds half of a surrogate pair"),
        (with_name(b'"\t"'), "malformed JSON: bad string at character 22"),
        (with_name(b'"\\x"'), "malformed JSON: bad string at character 22"),
        (with_name(b'"a}'), "malformed JSON: bad string at character 21"),
        (with_name(b"[" * 1_000_000), "name: must be a string, not an array"),
        (b"[" * 1_000_000, "the body: must be a JSON object, not an array"),
        (b'{"a":' * 100_000, '"a": is not a known field'),
        (b'{"%b": 1}' % (b"a" * 100_000), f'"{"a" * 64}": is not a known field'),
    ],
)
def test_a_refusal_names_the_place_and_the_reason(body: bytes, sentence: str) -> None:
    assert refusal(body) == sentence


def test_a_body_may_hold_any_character() -> None:
    name = '\x00\x1f\x7f\u2028\ufeff\U0001f600\\"/'
    assert read(json.dumps({"count": 0, "name": name}).encode()) == (0, name)


def test_the_range_holds_its_ends() -> None:
    assert read(with_count(b"-5"))[0] == -5
    assert read(with_count(b"2147483647"))[0] == 2147483647
    assert read(with_count(b"-0"))[0] == 0
