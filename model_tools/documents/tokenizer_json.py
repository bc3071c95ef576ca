"""Rebuilds a byte-level BPE tokenizer from the vocabulary that a GGUF file carries.

The only file of `model_tools` that imports `tokenizers`. Each pre-tokenizer is the original one, as
its model's own tokenizer.json has it; llama.cpp spells the same patterns differently
(llama-vocab.cpp).
"""

import re
from collections.abc import Iterator

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from model_tools.gguf.vocabulary import PreTokenizer, TokenType, Vocabulary


def build_tokenizer(vocabulary: Vocabulary) -> Tokenizer:
    """Returns a tokenizer that recognises special tokens in a text, and prepends the beginning of
    text where the vocabulary asks for it.

    A byte that has no token is dropped, as by llama.cpp.
    """
    tokenizer = Tokenizer(
        models.BPE(
            vocab={
                text: token
                for token, text in enumerate(vocabulary.tokens)
                if vocabulary.types[token] is not TokenType.UNUSED
            },
            merges=list(vocabulary.merges),
            # A word that is a token needs no path of merges to it.
            ignore_merges=vocabulary.pre_tokenizer is PreTokenizer.LLAMA_BPE,
        )
    )
    if vocabulary.pre_tokenizer is PreTokenizer.QWEN2:
        # Part of the original: without it decomposed text gives other tokens than in training.
        # llama.cpp leaves it out.
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = _pre_tokenizer(vocabulary.pre_tokenizer)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(list(_added_tokens(vocabulary)))
    if vocabulary.add_begin and vocabulary.begin is not None:
        begin = vocabulary.tokens[vocabulary.begin]
        # The token's name in the template, in whose syntax these characters have a meaning.
        name = re.sub(r"^\$|:", "_", begin)
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[name, "$A"],
            pair=[name, "$A", f"{name}:1", "$B:1"],
            special_tokens=[{"id": name, "ids": [vocabulary.begin], "tokens": [begin]}],
        )
    return tokenizer


def _pre_tokenizer(kind: PreTokenizer) -> pre_tokenizers.PreTokenizer:
    """Cuts text into words, and these into bytes as GPT-2's printable characters."""
    match kind:
        case PreTokenizer.GPT2:
            return pre_tokenizers.ByteLevel(add_prefix_space=False)
        case PreTokenizer.SMOLLM:
            return pre_tokenizers.Sequence(
                [
                    pre_tokenizers.Digits(individual_digits=True),
                    pre_tokenizers.ByteLevel(add_prefix_space=False),
                ]
            )
        case PreTokenizer.LLAMA_BPE:
            return _words_then_bytes(r"\p{N}{1,3}")
        case PreTokenizer.QWEN2:
            return _words_then_bytes(r"\p{N}")


def _words_then_bytes(digits: str) -> pre_tokenizers.PreTokenizer:
    """Llama 3 and Qwen 2 differ only in how many digits stay together."""
    words = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|" + digits + "|"
        r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _added_tokens(vocabulary: Vocabulary) -> Iterator[AddedToken]:
    """Tokens to match in a text before any other; decoding skips special ones by default."""
    special = (TokenType.CONTROL, TokenType.UNKNOWN)
    for text, kind in zip(vocabulary.tokens, vocabulary.types, strict=True):
        if kind in special or kind is TokenType.USER_DEFINED:
            yield AddedToken(text, special=kind in special, normalized=False)
