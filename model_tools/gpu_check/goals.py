"""Performance goals, and whether findings reach them. Knows findings only."""

from collections.abc import Iterator, Sequence

from model_tools.gpu_check.findings import Finding


def goals(findings: Sequence[Finding], large: str, narrow: str, wide: str) -> Iterator[Finding]:
    """Yields the goals for the large model with `wide` (16-bit) and `narrow` (4-bit) weights."""

    def at(weights: str, batch: int) -> Finding | None:
        name = f"{large} {weights}"
        found = (
            finding
            for finding in findings
            if (finding.model, finding.what, finding.batch, finding.past)
            == (name, "decode", batch, 0)
            and finding.tokens_per_second
        )
        return next(found, None)

    one, one_narrow, many = at(wide, 1), at(narrow, 1), at(wide, 64)
    name = f"{large} {wide}"
    yield _goal(name, "of bandwidth, batch 1", 0.75, one.of_bandwidth if one else None)
    yield _goal(
        f"{large} {narrow}", f"times {wide}, batch 1", 1.8, _ratio(_speed(one_narrow), _speed(one))
    )
    yield _goal(
        name,
        "times transformers, batch 1",
        3,
        _ratio(_speed(one), one.transformers if one else None),
    )
    yield _goal(name, "times one stream, batch 64", 25, _ratio(_speed(many), _speed(one)))
    share = one.outside_runtime if one else None
    if one and one.kernels_ms and one.step_ms:
        share = 1 - one.kernels_ms / one.step_ms
    yield _goal(name, "host's share of a step, batch 1", 0.10, share, at_most=True)


def _speed(finding: Finding | None) -> float | None:
    return finding.tokens_per_second if finding else None


def _ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one and other else None


def _goal(
    model: str, what: str, goal: float, value: float | None, *, at_most: bool = False
) -> Finding:
    bound = f"{'at most' if at_most else 'at least'} {goal:g}"
    if value is None:
        return Finding(model, f"goal: {what}", note=f"{bound}: not measured")
    reached = value <= goal if at_most else value >= goal
    return Finding(
        model, f"goal: {what}", note=f"{bound}: {value:.2f}, {'' if reached else 'not '}reached"
    )
