"""The layers of an encoder, each run once after the one before it, and passes that begin or end between two of them.

The model's own code still runs around the layers, so masks, turned positions and last norms are made as ever. Knows
nothing of what trains, nor of where states are kept.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from bitfit.runtime.layout import Flow


class LayerRange:
    """All layers of an encoder, the lowest first."""

    def __init__(self, layers: Sequence[nn.Module], flow: Flow) -> None:
        self.layers, self.flow = tuple(layers), flow

    @contextmanager
    def begun(self, at: int, states: Tensor | None) -> Iterator[None]:
        """Inside, what lies below layer `at` has no dropout, and does not run where its answer `states` is given."""
        layer = self.layers[at]
        own = layer.forward
        with ExitStack() as undo:
            draws = undo.enter_context(self.flow.without_dropout())

            def _begin(hidden_states: Tensor, *args: Any, **options: Any) -> Any:
                self.flow.draws = draws
                return own(hidden_states if states is None else states, *args, **options)

            undo.enter_context(_instead(layer, _begin))
            for skipped in self.layers[:at] if states is not None else ():
                undo.enter_context(_instead(skipped, _as_it_is))
            yield

    @contextmanager
    def ended(self, at: int, found: list[Tensor]) -> Iterator[None]:
        """Inside, the layers from `at` on do not run; what the first of them is given goes to `found`."""

        def _end(hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
            found.append(hidden_states)
            return hidden_states

        with ExitStack() as undo:
            undo.enter_context(_instead(self.layers[at], _end))
            for skipped in self.layers[at + 1 :]:
                undo.enter_context(_instead(skipped, _as_it_is))
            yield


def _as_it_is(hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
    """What a layer that does not run hands on."""
    return hidden_states


@contextmanager
def _instead(layer: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """A layer does something else; its place, its attributes and its parameters stay."""
    layer.__dict__["forward"] = forward
    try:
        yield
    finally:
        del layer.__dict__["forward"]
