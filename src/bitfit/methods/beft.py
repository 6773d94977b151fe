"""`beft`: the value biases, also where the checkpoint has none (Huang and others, 2026)."""

from bitfit.methods.site_family import SiteFamily
from bitfit.runtime.sites import Leaf


class Beft(SiteFamily):
    """A shift on each projection to values."""

    learning_rate = 1e-3  # the authors' scripts take it for most tasks

    def leaves(self, role: str) -> tuple[Leaf, ...]:
        return ("shift",) if role in ("value", "cross_value") else ()
