"""What a graph with keys and values in pages may declare."""

import pytest

from server.errors import StartError
from server.model.graph_interface import GraphInterface
from tests.model.gpu.fake_device import FakeMemory, Node
from tests.model.gpu.fake_paged_device import PAGE_TOKENS, FakePagedSession

KEY = "past_key_values.0.key"


class Changed(FakePagedSession):
    """Declares other shapes, and lacks an input."""

    def __init__(self, shapes: dict[str, list[int | str | None]], lacking: str = "") -> None:
        super().__init__(FakeMemory())
        self._shapes = shapes
        self._lacking = lacking

    def get_inputs(self) -> list[Node]:
        return [
            Node(node.name, node.type, self._shapes.get(node.name, node.shape))
            for node in super().get_inputs()
            if node.name != self._lacking
        ]


def test_the_size_of_a_page_is_the_graphs_or_what_the_fastest_kernel_wants() -> None:
    """Graphs of ONNX Runtime GenAI's exporter leave it open."""
    assert GraphInterface.of(Changed({}), "fake").page_tokens == PAGE_TOKENS
    opened: dict[str, list[int | str | None]] = {
        f"past_key_values.0.{kind}": ["num_blocks", "block_size", 2, 4] for kind in ("key", "value")
    }
    assert GraphInterface.of(Changed(opened), "fake").page_tokens == 256


@pytest.mark.parametrize(
    ("session", "reason"),
    [
        (Changed({KEY: ["num_blocks", 16, 2, 4]}), "has pages of 4 and of 16 tokens"),
        (Changed({KEY: ["num_blocks", 4, "heads", 4]}), f"{KEY} is tensor"),
        (Changed({KEY: ["num_blocks", 4, 2, 5]}), f"{KEY} has heads of an odd size, 5"),
        (Changed({}, "past_sequence_lengths"), "has no input `past_sequence_lengths`"),
    ],
    ids=["two sizes", "heads unknown", "odd heads", "no lengths"],
)
def test_what_cannot_be_driven_is_named(session: Changed, reason: str) -> None:
    with pytest.raises(StartError, match=f"^fake: {reason}"):
        GraphInterface.of(session, "fake")
