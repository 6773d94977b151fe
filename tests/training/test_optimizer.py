"""RowAdamW against torch's AdamW, row by row."""

import pytest
import torch
from torch import Tensor

from bitfit.training.config import TrainConfig, factor
from bitfit.training.optimizer import RowAdamW

RATES, CLIPS, DECAYS = (1e-2, 1e-3, 0.1), (1.0, 0.0, 0.1), (0.01, 0.5, 0.0)
WIDTH = 10


def gradients(step: int) -> Tensor:
    return torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(step))


def torchs(row: int, start: Tensor, steps: int) -> Tensor:
    """The same row by torch's own: its first half decays."""
    decaying, level = (part.clone().requires_grad_() for part in start[row].split(WIDTH // 2))
    groups = [{"params": [decaying], "weight_decay": DECAYS[row]}, {"params": [level], "weight_decay": 0.0}]
    adam = torch.optim.AdamW(groups, lr=RATES[row])
    for step in range(steps):
        decaying.grad, level.grad = (part.clone() for part in gradients(step)[row].split(WIDTH // 2))
        if CLIPS[row]:
            torch.nn.utils.clip_grad_norm_([decaying, level], CLIPS[row])
        adam.step()
    return torch.cat([decaying, level]).detach()


def test_each_row_steps_as_torchs_adamw_does() -> None:
    start = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(99))
    theta = start.clone()
    adam = RowAdamW(theta, torch.tensor([1.0] * 5 + [0.0] * 5))
    for step in range(6):
        adam.step(gradients(step), RATES, CLIPS, DECAYS)
    for row in range(3):
        torch.testing.assert_close(theta[row], torchs(row, start, 6))


def test_rows_that_stay_go_on() -> None:
    start = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(99))
    theta = start.clone()
    adam = RowAdamW(theta, torch.tensor([1.0] * 5 + [0.0] * 5))
    for step in range(3):
        adam.step(gradients(step), RATES, CLIPS, DECAYS)
    theta = theta[[2]].clone()
    adam.select(theta, [2])
    for step in range(3, 6):
        adam.step(gradients(step)[[2]], RATES[2:], CLIPS[2:], DECAYS[2:])
    torch.testing.assert_close(theta[0], torchs(2, start, 6))


@pytest.mark.parametrize("clip", [0.0, 0.1, 100.0])
def test_a_large_row_steps_as_a_small_one_does(clip: float) -> None:
    start = torch.randn(1, WIDTH, generator=torch.Generator().manual_seed(99))
    decays, factors = torch.tensor([1.0, 0.0] * 2 + [0.0] * 6), torch.tensor([1.0] * 5 + [30.0] * 5)
    rows = [start.clone(), start.clone()]
    adams = [RowAdamW(row, decays, factors, large) for row, large in zip(rows, (1, WIDTH + 1), strict=True)]
    for step in range(6):
        for adam in adams:
            adam.step(gradients(step)[:1].clone(), [1e-2], [clip], [0.5])
    torch.testing.assert_close(rows[0], rows[1])
    torch.testing.assert_close(adams[0].state(), adams[1].state())


@pytest.mark.parametrize("schedule", ["linear", "constant"])
def test_the_learning_rate_rises_then_falls_or_stays(schedule: str) -> None:
    config = TrainConfig(warmup=0.2, schedule=schedule)  # type: ignore[arg-type]
    factors = [factor(config, step, 20) for step in range(20)]
    assert factors[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert factors[4] == 1.0
    assert min(factors) > 0
    assert factors[-1] == pytest.approx(1.0 if schedule == "constant" else 1 / 16)
