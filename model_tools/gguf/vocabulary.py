"""A byte-level BPE vocabulary as one value, from the `tokenizer.ggml.*` keys of a GGUF file.

Knows the keys and their defaults (llama.cpp's llama-vocab.cpp, load), not how text is encoded.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum

from model_tools.gguf.keys import GgufKeys


class TokenType(IntEnum):
    """GGUF's `token_type`; 0 (undefined) and 6 (byte) do not occur in byte-level BPE."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5


class PreTokenizer(Enum):
    """How text is cut before merging, by llama.cpp's name for it.

    llama.cpp has many more names for these four. Only the older spellings of LLAMA_BPE are accepted
    here: for the others it was not checked that the original tokenizer cuts in the same way.
    """

    GPT2 = "gpt-2"
    LLAMA_BPE = "llama-bpe"
    QWEN2 = "qwen2"
    SMOLLM = "smollm"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Every merge joins two tokens to a third; `begin` is not None where `add_begin` is true."""

    pre_tokenizer: PreTokenizer
    tokens: tuple[str, ...]
    """In GPT-2's printable alphabet, one character per byte; control and user defined tokens are
    plain text."""
    types: tuple[TokenType, ...]
    merges: tuple[tuple[str, str], ...]
    """The first has the highest priority."""
    begin: int | None
    """Beginning of text."""
    end: int | None
    """The end-of-generation token that the file names; there may be others."""
    end_of_turn: int | None
    end_of_message: int | None
    unknown: int | None
    padding: int | None
    fill_in_the_middle_ends: tuple[int, ...]
    """Padding, next repository and next file: a code model ends an infill with one of these."""
    add_begin: bool
    """A prompt begins with `begin`."""


_KEY = "tokenizer.ggml."
_HARMLESS: dict[str, tuple[bool, ...]] = {
    "add_space_prefix": (False,),
    "remove_extra_whitespaces": (False,),
    "add_sep_token": (False,),
    # It would end every prompt before the model could answer.
    "add_eos_token": (False,),
}
_FILL_IN_THE_MIDDLE_ENDS = ("fim_pad_token_id", "fim_rep_token_id", "fim_sep_token_id")
_DESCRIPTIVE = (
    "scores",  # BPE ranks by merges
    "seperator_token_id",
    "cls_token_id",
    "mask_token_id",
    "fim_pre_token_id",
    "fim_suf_token_id",
    "fim_mid_token_id",
    "prefix_token_id",
    "suffix_token_id",
    "middle_token_id",
)


def read_vocabulary(keys: GgufKeys) -> Vocabulary:
    """Reads every `tokenizer.ggml.*` key; StartError for one that is missing, wrong or unknown."""
    model = keys.text(f"{_KEY}model")
    if model != "gpt2":
        raise keys.error(f"the tokenizer model {model!r} is not supported, only 'gpt2'")
    pre_tokenizer = _pre_tokenizer(keys)
    tokens = _tokens(keys)
    types = _types(keys, len(tokens))
    special = _SpecialIds(keys, len(tokens))
    vocabulary = Vocabulary(
        pre_tokenizer=pre_tokenizer,
        tokens=tokens,
        types=types,
        merges=_merges(keys, tokens, types),
        begin=special("bos_token_id"),
        end=special("eos_token_id"),
        end_of_turn=special("eot_token_id"),
        end_of_message=special("eom_token_id"),
        unknown=special("unknown_token_id"),
        padding=special("padding_token_id"),
        fill_in_the_middle_ends=special.ids_of(_FILL_IN_THE_MIDDLE_ENDS),
        # The default is llama.cpp's.
        add_begin=keys.flag(
            f"{_KEY}add_bos_token", default=pre_tokenizer is PreTokenizer.LLAMA_BPE
        ),
    )
    if vocabulary.add_begin and vocabulary.begin is None:
        raise keys.error(f"prompts begin with a token that {_KEY}bos_token_id does not name")
    for name, harmless in _HARMLESS.items():
        keys.refuse_unless(_KEY + name, *harmless)
    keys.ignore(_KEY + name for name in _DESCRIPTIVE)
    keys.refuse_unread(_KEY)
    return vocabulary


def _pre_tokenizer(keys: GgufKeys) -> PreTokenizer:
    name = keys.text(f"{_KEY}pre")
    try:
        return PreTokenizer("llama-bpe" if name in ("llama3", "llama-v3") else name)
    except ValueError as error:
        known = ", ".join(member.value for member in PreTokenizer)
        raise keys.error(f"the pre-tokenizer {name!r} is not supported, only {known}") from error


def _tokens(keys: GgufKeys) -> tuple[str, ...]:
    # An empty token can match nothing; llama.cpp gives it this name too.
    texts = keys.texts(f"{_KEY}tokens")
    tokens = tuple(text or f"[EMPTY_{index}]" for index, text in enumerate(texts))
    if len(set(tokens)) != len(tokens):
        [(repeated, times)] = Counter(tokens).most_common(1)
        raise keys.error(f"the token {repeated!r} occurs {times} times")
    return tokens


def _types(keys: GgufKeys, count: int) -> tuple[TokenType, ...]:
    name = f"{_KEY}token_type"
    numbers: Sequence[int] = keys.integers(name) if keys.has(name) else [TokenType.NORMAL] * count
    if len(numbers) != count:
        raise keys.error(f"{name} has {len(numbers)} entries for {count} tokens")
    try:
        return tuple(map(TokenType, numbers))
    except ValueError as error:
        raise keys.error(f"{name}: {error}") from error


def _merges(
    keys: GgufKeys, tokens: Sequence[str], types: Sequence[TokenType]
) -> tuple[tuple[str, str], ...]:
    used = {text for text, kind in zip(tokens, types, strict=True) if kind is not TokenType.UNUSED}
    merges = []
    for merge in keys.texts(f"{_KEY}merges"):
        # At the first space that is not the first character, as llama.cpp does.
        split = merge.find(" ", 1)
        first, second = merge[:split], merge[split + 1 :]
        if split < 0 or not {first, second, first + second} <= used:
            raise keys.error(f"the merge {merge!r} does not join two tokens to a third")
        merges.append((first, second))
    return tuple(merges)


@dataclass(frozen=True, slots=True)
class _SpecialIds:
    keys: GgufKeys
    tokens: int

    def __call__(self, name: str) -> int | None:
        token = self.keys.optional_integer(_KEY + name)
        if token is not None and not 0 <= token < self.tokens:
            raise self.keys.error(f"{_KEY}{name} = {token} is outside the {self.tokens} tokens")
        return token

    def ids_of(self, names: Sequence[str]) -> tuple[int, ...]:
        return tuple(token for token in map(self, names) if token is not None)
