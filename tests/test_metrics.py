"""Figures and their text."""

import re

from hypothesis import given
from hypothesis import strategies as st

from server.metrics import Family, Histogram, Kind, Sample, exposition

BOUNDS = (0.0005, 0.001, 0.25, 10.0)
LINE = re.compile(r'[a-zA-Z_]\w*(\{[a-zA-Z_]\w*="(\\[\\n"]|[^\\"\n])*"(,[^}]*)?\})? \S+\n')
sizes = st.sampled_from([0.0, *BOUNDS]) | st.floats(0, 100)
observations = st.lists(st.tuples(sizes, st.integers(1, 5)))


@given(observations)
def test_a_bucket_counts_all_that_is_not_above_its_bound(seen: list[tuple[float, int]]) -> None:
    histogram = Histogram(BOUNDS)
    for value, count in seen:
        histogram.observe(value, count)
    *buckets, total, count_of_all = histogram.samples()
    assert [bucket.labels["le"] for bucket in buckets] == [
        "0.0005",
        "0.001",
        "0.25",
        "10.0",
        "+Inf",
    ]
    for bucket in buckets:
        bound = float(bucket.labels["le"])
        assert bucket.value == sum(count for value, count in seen if value <= bound)
    assert (total.suffix, count_of_all.suffix) == ("_sum", "_count")
    assert abs(total.value - sum(value * count for value, count in seen)) < 1e-6
    assert count_of_all.value == buckets[-1].value


def test_the_text_is_prometheus_own() -> None:
    histogram = Histogram((0.5,))
    histogram.observe(0.25, 2)
    families = [
        Family("a_total", Kind.COUNTER, "How many.", (Sample(3, {"code": "503", "b": "x"}),)),
        Family("seconds", Kind.HISTOGRAM, "How long.", histogram.samples()),
        Family("none", Kind.GAUGE, "Nothing yet.", ()),
    ]
    assert exposition(families) == (
        "# HELP a_total How many.\n"
        "# TYPE a_total counter\n"
        'a_total{code="503",b="x"} 3\n'
        "# HELP seconds How long.\n"
        "# TYPE seconds histogram\n"
        'seconds_bucket{le="0.5"} 2\n'
        'seconds_bucket{le="+Inf"} 2\n'
        "seconds_sum 0.5\n"
        "seconds_count 2\n"
        "# HELP none Nothing yet.\n"
        "# TYPE none gauge\n"
    )


@given(st.text(), st.floats(allow_nan=False))
def test_a_label_stays_within_its_line(value: str, number: float) -> None:
    text = exposition([Family("a", Kind.GAUGE, "", (Sample(number, {"b": value}),))])
    *_, line = text.partition("gauge\n")
    assert LINE.fullmatch(line)
    assert float(line.rpartition(" ")[2]) == number
