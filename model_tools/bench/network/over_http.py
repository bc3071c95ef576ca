"""Runs a round of clients over HTTP, at a server whose metrics say what its steps take."""

from model_tools.bench.network.figures import Figures
from model_tools.bench.serve.prometheus import DECODE_SECONDS, DECODE_SHARE, quotients
from model_tools.bench.serve.reply import Outcome
from model_tools.bench.serve.result import GAP, TIME_TO_FIRST_TOKEN
from model_tools.bench.serve.session import Plan, run
from server.errors import StartError


def over_http(plan: Plan) -> Figures:
    """Runs a plan with one target, one load and one round. Raises `StartError`."""
    findings = run(plan, lambda: None)
    [result], [(_, before, after)] = findings.results, findings.metrics
    for reply in result.replies:
        if reply.outcome is not Outcome.COMPLETE:
            raise StartError(f"a request is {reply.outcome.value}: {reply.reason}")
    step_means = dict(quotients(before, after))
    return Figures.of(
        tokens_per_second=result.tokens_per_second,
        first_tokens=TIME_TO_FIRST_TOKEN.figures(result.replies),
        gaps=GAP.figures(result.replies),
        decode_step=step_means.get(DECODE_SECONDS),
        runtime_share=step_means.get(DECODE_SHARE),
    )
