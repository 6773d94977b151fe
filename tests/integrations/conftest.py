"""The same tiny backbones and deltas as the tests of deltas have."""

from tests.delta.conftest import bert, delta, gpt2, saved

__all__ = ["bert", "delta", "gpt2", "saved"]
