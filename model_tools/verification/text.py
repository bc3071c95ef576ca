"""Passages that a new model folder is verified over: short, of different kinds, written for Skiff.

Knows nothing else. Nothing may be calibrated on these passages.
"""

PROSE = """\
The ferry left at six, an hour before the sun came over the hills, and for most of the crossing
nobody spoke. A man in a grey coat read the same page of his newspaper again and again. Two children
slept against their mother's bag, and the youngest of them held a paper boat that had already lost
its mast. When the engine stopped in the middle of the channel, the silence was so complete that we
could hear water running along the hull. The captain came down, counted us, and smiled. "There is
nothing wrong," he said. "I only wanted you to see the birds." Then he pointed to the north, where
thousands of them rose from the sea at once, like smoke.
"""

CODE = '''\
from collections import deque


def shortest_path(graph: dict[str, list[str]], start: str, goal: str) -> list[str] | None:
    """Breadth-first search; None if the goal cannot be reached."""
    queue = deque([[start]])
    visited = {start}
    while queue:
        path = queue.popleft()
        if path[-1] == goal:
            return path
        for neighbour in graph.get(path[-1], []):
            if neighbour not in visited:
                visited.add(neighbour)
                queue.append([*path, neighbour])
    return None
'''

DIALOGUE = """\
<|im_start|>user
My bread never rises in winter. What am I doing wrong?<|im_end|>
<|im_start|>assistant
Probably nothing! Yeast works slowly in the cold. You can:

1. Use warm water, about 35 degrees.
2. Let the dough rise near an oven, or in one with only the light on.
3. Give it more time: two hours instead of one.

How warm is your kitchen?<|im_end|>
<|im_start|>user
Around 16 degrees. Would more sugar help?<|im_end|>
"""

NUMBERS = """\
| year | rainfall (mm) | days of frost | mean (C) |
|------|---------------|---------------|----------|
| 2019 | 812.4         | 31            | 10.6     |
| 2020 | 774.9         | 22            | 11.3     |
| 2021 | 903.0         | 40            | 9.8      |

The mean rainfall of the three years is (812.4 + 774.9 + 903.0) / 3 = 830.1 mm.
"""

FRENCH = """\
Le matin, la place du marché est encore vide ; seuls quelques pigeons traversent la lumière. Puis
les camions arrivent, on déplie les tables, et l'odeur du café se mêle à celle des oranges.
« Combien pour le kilo ? » demande une vieille dame, qui connaît très bien la réponse.
"""

PASSAGES = (PROSE, CODE, DIALOGUE, NUMBERS, FRENCH)
