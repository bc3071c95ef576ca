# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.13.0", "transformers==5.23.0", "gguf==0.19.0", "accelerate==1.15.0"]
# ///
"""Writes the golden continuations: what `transformers` says, in float32, greedily.

    python tests/golden/make.py SmolLM2-135M-Instruct.Q4_1.gguf tests/golden/smollm2-135m.json

Shares nothing with Skiff: its own reading of the GGUF, its own tokenizer, its own graph. Run once,
in an environment of its own (the packages above); tests read only the JSON. The end of text does
not stop a continuation, so that each has `NEW_TOKENS` tokens. A prompt whose margins come near to
the rounding of float32 sums (1e-3) would make its test one of luck: choose another.
"""

import argparse
import json
from pathlib import Path

import torch  # type: ignore[import-not-found, unused-ignore]  # only in this script's environment
import transformers  # type: ignore[import-not-found, unused-ignore]  # as above

NEW_TOKENS = 64

PROMPTS = {
    "one token": "Hello",
    "fact": "The capital of France is",
    "chat": (
        "<|im_start|>user\nName three planets that have rings.<|im_end|>\n<|im_start|>assistant\n"
    ),
    "code": 'def fibonacci(n: int) -> int:\n    """Return the n-th Fibonacci number."""\n',
    "query": "SELECT name, born FROM people WHERE",
    "digits": "Squares: 1, 4, 9, 16, 25, 36, 49, 64, 81,",
    "unicode": "Le café naïf de Zürich ☕ (日本語: コーヒー) est",
    "story": (
        "The lighthouse had been empty for eleven years when Marta rowed out to it with a "
        "lamp, a loaf of bread and her grandfather's keys. The harbour said that nobody could"
        " live there: the roof leaked, the stairs were rotten, and on winter nights the sea "
        "came through the kitchen. But she had read his logbooks, all forty of them, and she "
        "knew what the harbour did not. On the last page, in a hand that was no longer "
        "steady, he had written that the light was never there for the ships.\n\n"
        "She tied the boat to the iron ring, climbed the rocks, and turned the smallest key "
        "in the lock. Inside, everything was exactly as he had left it: a cup on the table, a"
        " coat on its hook, and, under the window, a telescope that did not point at the sea "
        "at all.\n\n"
        "She bent down, closed one eye, and"
    ),
}


def continuation(
    model: transformers.PreTrainedModel, prompt_ids: list[int]
) -> tuple[list[int], list[float]]:
    """The greedy tokens, and by how much each won: its logit less the second best."""
    generated: list[int] = []
    margins: list[float] = []
    past = transformers.DynamicCache()
    step = prompt_ids
    while len(generated) < NEW_TOKENS:
        logits = model(torch.tensor([step]), past_key_values=past, use_cache=True).logits[0, -1]
        best = torch.topk(logits, 2)
        generated.append(int(best.indices[0]))
        margins.append(round(float(best.values[0] - best.values[1]), 5))
        step = generated[-1:]
    return generated, margins


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("gguf", type=Path)
    arguments.add_argument("output", type=Path)
    options = arguments.parse_args()
    source: Path = options.gguf
    output: Path = options.output

    torch.set_num_threads(2)
    torch.set_grad_enabled(False)
    tokenizer = transformers.AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, dtype=torch.float32, attn_implementation="eager"
    )

    continuations = []
    for name, prompt in PROMPTS.items():
        prompt_ids = tokenizer(prompt).input_ids
        generated_ids, margins = continuation(model, prompt_ids)
        print(f"{name}: {len(prompt_ids)} tokens, smallest margin {min(margins)}")
        print(f"    {tokenizer.decode(generated_ids)!r}")
        continuations.append(
            {
                "name": name,
                "prompt": prompt,
                "prompt_ids": prompt_ids,
                "generated_ids": generated_ids,
                "margins": margins,
            }
        )
    lines = ",\n".join(json.dumps(each) for each in continuations)
    output.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
