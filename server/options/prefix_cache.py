"""The flags about what new prompts start from."""

from server.config import PrefixCacheConfig, PrefixReuse
from server.options.flag import Flag, Group
from server.options.values import choice, mebibytes

_DEFAULT = PrefixCacheConfig()


def reuse(text: str) -> PrefixReuse:
    return PrefixReuse(choice(*(kind.value for kind in PrefixReuse))(text))


PREFIX_CACHE = Group(
    "prefix cache",
    "A new prompt starts from what another one, running or ended, has in common with it.",
    PrefixCacheConfig,
    {
        "reuse": Flag(
            "prefix-cache",
            "KIND",
            reuse,
            "prompts: what prompts wrote; all: also what was generated, which rounds\n"
            "differently; off",
            _DEFAULT.reuse.value,
        ),
        "capacity": Flag(
            "prefix-cache-mib",
            "MIB",
            mebibytes,
            "memory for prefixes of ended sequences",
            str(_DEFAULT.capacity // 2**20),
        ),
    },
)
