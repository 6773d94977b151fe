"""`steer`: a trained bias on each block's output."""

from bitfit.methods.site_family import SiteFamily
from bitfit.runtime.sites import Leaf


class Steer(SiteFamily):
    """One vector a block."""

    learning_rate = 1e-2  # best or next to it on Rotten Tomatoes and MRPC, of 3e-4 to 3e-2: benchmarks/log.md

    def leaves(self, role: str) -> tuple[Leaf, ...]:
        return ("shift",) if role == "block" else ()
