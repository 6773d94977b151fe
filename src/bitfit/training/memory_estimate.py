"""Estimates the memory of a training from one small pass before it starts."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bitfit.backbone.device import chosen_device
from bitfit.backbone.load import Backbone
from bitfit.data.examples import Examples, TaskData
from bitfit.inference.outputs import batch_of, labels_of, losses, pass_tokens
from bitfit.methods.method import Method
from bitfit.training import few_shot, order
from bitfit.training.build import Built, build
from bitfit.training.config import TrainConfig
from bitfit.training.frozen_prefix import needed
from bitfit.training.recipe import Recipe, ResumableRequest

SAMPLE_TOKENS = 1024  # of the small pass
# Beside what a pass keeps, some of its largest tensors live for a moment: so many of them. JointLinear with the two
# figures below this came within a third of the real peak of the embedded model, for 500 to 14,000 tokens a pass.
ON_THE_WAY_BACK, WITHOUT_GRADIENT = 3, 5
ROW_COPIES = 7  # theta, gradient, two averages, best, start, one on its way
KEPT_FREE = 2.5  # freed blocks stay in the process, and small ones that live on keep large ones from being used again
LIBRARIES = 100 << 20  # bytes that libraries take when they first work
# Where the machine has this much free, nothing that bitfit trains comes near it, and nothing need be looked at.
PLENTY, PLENTY_OF_WEIGHTS = 4 << 30, 20  # bytes, and so many times the weights' own


@dataclass(frozen=True)
class Estimate:
    """Bytes, each the most that is used at once."""

    loaded: int  # the process as it is now: libraries, backbone, data
    trained: int  # trained values, their gradients and averages
    training_pass: int  # what one pass keeps for the way back, and its passing tensors
    scoring_pass: int  # the same without gradients
    tokens_a_pass: int  # of the largest pass in training
    kept: int  # of disk: what the layers below all that trains answer, where it is kept; not in the sums
    available: int | None  # what the machine can still give; None where it does not say

    @property
    def needed(self) -> int:
        """What is still to come on top of what is loaded."""
        return LIBRARIES + self.trained + int(KEPT_FREE * max(self.training_pass, self.scoring_pass))

    @property
    def total(self) -> int:
        """The process at its largest."""
        return self.loaded + self.needed

    @property
    def fits(self) -> bool:
        """As far as can be known."""
        return self.available is None or self.needed < self.available

    def to_json(self) -> dict[str, Any]:
        """Plain values, sums included."""
        return {**asdict(self), "needed": self.needed, "total": self.total, "fits": self.fits}


def estimate(backbone: Backbone, data: TaskData, method: str | Method, configs: Sequence[TrainConfig]) -> Estimate:
    """What training these rows together would need."""
    recipe = Recipe.of(backbone, data, Method.of(method), configs)
    built = build(recipe, ResumableRequest.of({"data": {}}, None), lambda _: None)
    rows = built.lineup.configs if built.shares_a_pass else recipe.configs[:1]
    budget = pass_tokens(built.model)
    stages = [[few_shot.stage_config(row, data)] for row in rows if row.few_shot == "on"]
    tokens = max(_largest_pass(data.splits["train"], each, budget) for each in [rows, *stages])
    fixed, kept, largest, sampled = _one_pass(built, data.splits["train"])
    return Estimate(
        loaded=_resident(built.model.device),
        trained=ROW_COPIES * 4 * built.phase.theta.size * len(rows),
        training_pass=fixed + (kept + ON_THE_WAY_BACK * largest) * tokens // sampled,
        scoring_pass=fixed + WITHOUT_GRADIENT * largest * budget // sampled,
        tokens_a_pass=tokens,
        kept=sum(needed(data, built.model).values()) if built.model.boundary else 0,
        available=_available(built.model.device),
    )


def maybe_get_warning(
    backbone: Backbone, data: TaskData, method: str | Method, configs: Sequence[TrainConfig]
) -> str | None:
    """What to say before training where memory may not suffice; None where it does, or the machine does not say."""
    free = _available(chosen_device(configs[0].device))
    weights = sum(parameter.nbytes for parameter in backbone.model.parameters())
    if free is None or free > PLENTY + PLENTY_OF_WEIGHTS * weights:
        return None
    needs = estimate(backbone, data, method, configs)
    if needs.fits:
        return None
    return (
        f"This may need about {needs.needed / 1e6:,.0f} MB more memory than is used now, and the machine has "
        f"{free / 1e6:,.0f} MB free. It begins all the same; if memory runs out, passes get smaller. "
        "Ending other programs helps, and so does a lower `DataOptions(max_length=...)`."
    )


def _largest_pass(train: Examples, configs: Sequence[TrainConfig], budget: int) -> int:
    """Tokens of the largest pass of the first epoch, or of as much of it as the shortest row has."""
    lengths = np.asarray(train.lengths)
    batches = [_cut_epoch(config, len(train)) for config in configs]
    most = 0
    for step in zip(*batches, strict=False):
        chunks = [order.micro_batches(i, examples, lengths, budget) for i, examples in enumerate(step)]
        for shared in order.shared_passes(chunks, lengths, budget):
            most = max(most, sum(int(lengths[chunk.examples].sum()) for chunk in shared))
    return most


def _cut_epoch(config: TrainConfig, examples: int) -> list[NDArray[np.int64]]:
    shuffled = order.shuffled(config.seed, 0, examples)
    return [shuffled[i : i + config.batch_size] for i in range(0, examples, config.batch_size)]


def _one_pass(built: Built, train: Examples) -> tuple[int, int, int, int]:
    """A pass over the longest examples: bytes that the values take however many tokens there are, bytes kept for the
    way back, bytes of the largest of them, tokens."""
    longest = np.argsort(train.lengths, kind="stable")[::-1]
    which = longest[: max(1, int(np.searchsorted(np.cumsum(train.lengths[longest]), SAMPLE_TOKENS)))]
    theta = built.phase.theta.starting_row({})[None].requires_grad_()
    saved: dict[int, int] = {}
    counted = {parameter.untyped_storage().data_ptr() for parameter in built.model.parameters()}
    counted.add(theta.untyped_storage().data_ptr())

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in counted:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    device = built.model.device
    batch = batch_of(train, which, (len(which),), device)
    kind = built.recipe.data.task.kind
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        values = built.phase.theta.tensors(theta)
    for value in values.values():
        note(value)
    fixed = sum(saved.values())
    counted |= saved.keys()
    saved.clear()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        answers = built.model.answers(batch, values)
        loss = losses(kind, answers, labels_of(train, which, kind == "tags", device), batch.layout)
    del loss
    wide = _widest(built) * batch.layout.starts[-1]
    return fixed, sum(saved.values()), max([wide, *saved.values()]), int(batch.layout.starts[-1])


def _widest(built: Built) -> int:
    """Bytes of a token in the layer that makes most of it."""
    config = built.recipe.backbone.config
    sizes = [getattr(config, name, 0) or 0 for name in ("hidden_size", "intermediate_size", "ffn_dim", "d_ff")]
    return max(sizes) * built.compute.itemsize


def _resident(device: torch.device) -> int:
    """Bytes of this process in memory, for a GPU in the GPU's; 0 where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return 0


def _available(device: torch.device) -> int | None:
    """Bytes that can still be had: what the device has left, or what this process's group may still take."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        limits = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    except (OSError, ValueError):
        return None
    try:
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text())
        limits.append(limit - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        pass  # no group, or one without a limit
    return min(limits) if limits else None
