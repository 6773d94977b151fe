"""`red`: a gain and a bias on the output of each MLP (Wu and others, 2024)."""

from bitfit.methods.site_family import SiteFamily
from bitfit.runtime.sites import Leaf


class Red(SiteFamily):
    """Both on the projection that ends the MLP, before the residual."""

    learning_rate = 3e-3  # the authors' scripts for RoBERTa-base go from 1e-3 (MNLI, SST-2) to 8e-3 (RTE)

    def leaves(self, role: str) -> tuple[Leaf, ...]:
        return ("gain", "shift") if role == "output" else ()
