"""`gain-and-bias`: a gain and a bias on every linear layer and norm of the encoder's layers.

A block's output has none: its last layer has.
"""

from bitfit.methods.site_family import SiteFamily
from bitfit.runtime.sites import Leaf


class GainAndBias(SiteFamily):
    """All sites, whatever their role."""

    learning_rate = 3e-3  # the best on Rotten Tomatoes and on MRPC, of 1e-3 to 3e-2: benchmarks/log.md

    def leaves(self, role: str) -> tuple[Leaf, ...]:
        return () if role in ("block", "head") else ("gain", "shift")
