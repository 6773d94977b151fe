"""What layers need to know of the pass they are in, in a context variable for thread safety.

Trained values stand in for a model's own parameters while a pass runs. Layers of ours take them from the pass, which
changes no module. Only values of other modules' parameters are put into the model, and then it runs no other pass.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from bitfit.runtime.dropout import Draws
from bitfit.runtime.layout import Layout
from bitfit.runtime.segments import Segments


@dataclass
class LayerSpan:
    """The layers that a pass runs, where it does not run all."""

    begin: int = 0  # the first that runs, or that has dropout
    draws: Draws | None = None  # of that one and all above
    states: Tensor | None = None  # what that one is given; None: it is computed by the layers below, without dropout
    end: int | None = None  # the first that no longer runs
    end_states: Tensor | None = None  # what that one would have been given


@dataclass
class Pass:
    """One run through an encoder or a head."""

    layout: Layout
    segments: Segments | None = None  # rows in what the layers get; None: one row has it all
    values: Mapping[int, Tensor] = field(default_factory=dict)  # by the id of the parameter that each stands in for
    draws: Draws | None = None  # None: no dropout
    span: LayerSpan | None = None
    states: Tensor | None = None  # for a head: what the encoder would have returned
    joint: dict[object, Any] = field(default_factory=dict)  # answers of joint layers that were not asked for yet

    def value(self, parameter: Tensor | None) -> Tensor | None:
        """What a layer is to use for a parameter of its own."""
        return parameter if parameter is None else self.values.get(id(parameter), parameter)


_current: ContextVar[Pass] = ContextVar("bitfit_pass")


def current() -> Pass:
    """The pass that runs in this thread."""
    return _current.get()


def maybe_current() -> Pass | None:
    """The pass that runs in this thread, or None where a model runs outside any."""
    return _current.get(None)


@contextmanager
def running(one: Pass) -> Iterator[Pass]:
    """Inside, this pass is the current one."""
    token = _current.set(one)
    try:
        yield one
    finally:
        _current.reset(token)


class Parameters:
    """A model's parameters by the task model's names. `reads` says which ones its modules take from a pass."""

    def __init__(self, model: nn.Module, prefix: str, reads: Callable[[nn.Module, str], bool]) -> None:
        self.model, self.prefix = model, prefix
        self.modules: dict[str, tuple[nn.Module, str]] = {}
        self._read: set[str] = set()
        self._lock = _SharedLock()
        for path, module in model.named_modules(prefix=prefix, remove_duplicate=False):
            for leaf, parameter in module._parameters.items():
                name = f"{path}.{leaf}".lstrip(".")
                if parameter is None:
                    continue
                self.modules[name] = (module, leaf)
                if reads(module, leaf):
                    self._read.add(name)

    def __contains__(self, name: str) -> bool:
        return name in self.modules

    def __getitem__(self, name: str) -> nn.Parameter:
        module, leaf = self.modules[name]
        return getattr(module, leaf)  # type: ignore[no-any-return]

    @contextmanager
    def standing_in(
        self, values: Mapping[str, Tensor], alone: bool = False
    ) -> Iterator[tuple[dict[int, Tensor], Callable[..., Any]]]:
        """Values by id for a pass, and the model as a function; names of other models are left out.

        Values that no module reads from a pass are put into the model, under a lock: other passes wait, as they do
        where a pass must be `alone` for another reason.
        """
        known = {name: value for name, value in values.items() if name in self.modules}
        read = {id(self[name]): value for name, value in known.items() if name in self._read}
        put = {self._below(name): value for name, value in known.items() if name not in self._read}
        if not put and not alone:
            with self._lock.shared():
                yield read, self.model
            return
        with self._lock.alone():
            yield read, lambda *args, **options: functional_call(self.model, put, args, options)

    def _below(self, name: str) -> str:
        return name.removeprefix(f"{self.prefix}.") if self.prefix else name


class _SharedLock:
    """Many at once, or one alone."""

    def __init__(self) -> None:
        self._condition, self._inside = threading.Condition(), 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        with self._condition:
            self._inside += 1
        try:
            yield
        finally:
            with self._condition:
                self._inside -= 1
                self._condition.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._condition:  # which is locked to the end, so that nobody else comes in
            self._condition.wait_for(lambda: self._inside == 0)
            yield
