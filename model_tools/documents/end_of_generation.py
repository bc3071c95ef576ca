"""Which tokens end a generation. A GGUF file names one of them; a chat model has several."""

from model_tools.gguf.vocabulary import TokenType, Vocabulary

# Tokens of the Llama family's vocabularies that end a text, a turn or a message, by their text: the
# list of llama.cpp (llama-vocab.cpp, special_eog_ids) without other architectures' tool markers.
_ENDINGS = frozenset(
    {
        "<|endoftext|>",
        "<|end_of_text|>",
        "</s>",
        "<eos>",
        "[EOS]",
        "<|im_end|>",
        "<|eot_id|>",
        "<|end|>",
        "<end_of_turn>",
        "<end_of_utterance>",
        "<EOT>",
        "[EOT]",
        "<|eom_id|>",
    }
)


def end_of_generation(vocabulary: Vocabulary) -> tuple[int, ...]:
    """Returns token ids: the file's end token first, the others ascending; empty if there are none.

    A token of `_ENDINGS` counts only if it is a control token: an ordinary one may well occur in a
    generated text.
    """
    named = (
        vocabulary.end,
        vocabulary.end_of_turn,
        vocabulary.end_of_message,
        *vocabulary.fill_in_the_middle_ends,
    )
    endings = {token for token in named if token is not None}
    endings |= {
        token
        for token, (text, kind) in enumerate(zip(vocabulary.tokens, vocabulary.types, strict=True))
        if kind is TokenType.CONTROL and text in _ENDINGS
    }
    return tuple(sorted(endings, key=lambda token: (token != vocabulary.end, token)))
