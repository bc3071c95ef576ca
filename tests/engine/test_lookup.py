"""A draft is what a plain search over the whole text finds."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.engine.lookup import LONGEST_MATCH, MAX_MATCHES, Draft, Lookup

texts = st.lists(st.integers(0, 2), max_size=60) | st.lists(st.integers(0, 9), max_size=200)


def naive_continuation(tokens: list[int], most: int) -> Draft:
    """Every earlier place, the latest first, and for each length of a match in turn."""
    pairs = list(pairwise(tokens))
    places = [end for end in range(2, len(tokens)) if pairs[end - 2] == pairs[-1]]
    for length in range(LONGEST_MATCH, 1, -1):
        for place in places[::-1][:MAX_MATCHES]:
            if length <= place and tokens[place - length : place] == tokens[-length:]:
                text = list(tokens)
                for index in range(most):
                    text.append(text[place + index])
                return tuple(text[len(tokens) :])
    return ()


@given(tokens=texts, most=st.integers(1, 9), cuts=st.sets(st.integers(0, 200)))
def test_a_draft_is_what_a_plain_search_finds_however_the_text_came(
    tokens: list[int], most: int, cuts: set[int]
) -> None:
    lookup = Lookup()
    ends = sorted(cut for cut in cuts if cut < len(tokens))
    for start, stop in pairwise([0, *ends, len(tokens)]):
        lookup.extend(tokens[start:stop])
    assert lookup.continuation(most) == naive_continuation(tokens, most)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([], ()),
        ([1], ()),
        ([1, 1], ()),
        ([1, 2, 3, 1], ()),  # one token in common is none
        ([1, 2, 3, 4, 5, 1, 2], (3, 4, 5, 1)),
        ([1, 2, 3, 1, 2, 4, 1, 2], (4, 1, 2, 4)),  # the latest, and on from the end
        ([5, 1, 2, 3, 6, 1, 2, 4, 5, 1, 2], (3, 6, 1, 2)),  # three in common rather than the latest
        ([7, 7, 7], (7, 7, 7, 7)),
    ],
)
def test_drafts(tokens: list[int], expected: Draft) -> None:
    lookup = Lookup()
    lookup.extend(tokens)
    assert lookup.continuation(4) == expected


def test_only_the_latest_places_are_looked_at() -> None:
    """Three tokens in common, but too long ago."""
    lookup = Lookup()
    lookup.extend([9, 1, 2, 3, *[0, 1, 2, 4] * MAX_MATCHES, 9, 1, 2])
    assert lookup.continuation(1) == (4,)
