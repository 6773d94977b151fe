"""`ia3`: gains on keys, values and what the MLP's second layer reads (Liu and others, 2022)."""

from bitfit.methods.site_family import SiteFamily
from bitfit.runtime.sites import Leaf


class IA3(SiteFamily):
    """Three gains a layer, and two more where a decoder looks at an encoder."""

    learning_rate = 3e-3  # the paper's, of T-Few

    def leaves(self, role: str) -> tuple[Leaf, ...]:
        if role in ("key", "value", "cross_key", "cross_value"):
            return ("gain",)
        return ("input_gain",) if role == "output" else ()
