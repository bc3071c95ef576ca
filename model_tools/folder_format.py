"""The version of what an export writes; names of cached folders hold it.

Raise it whenever the same source would give another folder, so that no update serves an old graph.
"""

FORMAT_VERSION = 6
