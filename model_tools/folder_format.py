"""The version of an exported folder's contents; the names of cached folders contain it.

Increment it whenever the same source would give another folder, so that no update serves an old
graph.
"""

FORMAT_VERSION = 7
