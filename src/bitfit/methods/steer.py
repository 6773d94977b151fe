"""`steer`: a trained bias on each block's output."""

from bitfit.methods.site_family import SiteFamily
from bitfit.runtime.sites import Leaf


class Steer(SiteFamily):
    """One vector a block."""

    def leaves(self, role: str) -> tuple[Leaf, ...]:
        return ("shift",) if role == "block" else ()
