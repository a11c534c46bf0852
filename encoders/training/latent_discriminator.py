"""e4e's latent discriminator: does a style vector come from the mapping, or from an encoder?"""

from __future__ import annotations

from torch import Tensor, nn


class LatentDiscriminator(nn.Module):
    """A small MLP (e4e, arXiv 2102.02766, section 3.2), with the published names (`mlp.*`)."""

    def __init__(
        self,
        w_dim: int = 512,  # entries of a style vector
        n_layers: int = 4,  # linear layers, the last one to the score
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(n_layers - 1):
            layers += [nn.Linear(w_dim, w_dim), nn.LeakyReLU(0.2)]
        self.mlp = nn.Sequential(*layers, nn.Linear(w_dim, 1))

    def forward(self, w: Tensor) -> Tensor:
        """w [..., w_dim] -> scores [...], higher for vectors of the mapping."""
        return self.mlp(w).squeeze(-1)
