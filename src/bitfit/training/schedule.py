"""How the learning rate moves over a run: a factor for each step."""

from bitfit.training.config import TrainConfig


def factor(config: TrainConfig, step: int, steps: int) -> float:
    """The share of the learning rate at a step, counted from 0, of `steps` in all."""
    warm = int(config.warmup * steps)
    if step < warm:
        return (step + 1) / (warm + 1)
    if config.schedule == "constant":
        return 1.0
    return (steps - step) / max(1, steps - warm)
