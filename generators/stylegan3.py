"""StyleGAN3 (Karras et al. 2021, arXiv 2106.12423), configurations T and R. Networks do no I/O."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from generators.derived import Derived
from generators.layers import Styles
from generators.style_based import (
    Mapping,
    Noise,
    StyleBasedGenerator,
    require_noise,
    require_w_plus,
)
from generators.styled_conv import Formulation
from generators.stylegan3_config import StyleGAN3Config
from generators.stylegan3_layers import FourierInput, LayerWeights, SynthesisLayer


class StyleGAN3Synthesis(nn.Module):
    """Style vectors to images: Fourier features and 15 layers, the last of which makes colours."""

    def __init__(self, config: StyleGAN3Config) -> None:
        super().__init__()
        self.n_styles, self.w_dim = config.n_styles, config.w_dim
        self.output_scale = config.output_scale
        # Dtype of the feature maps; weights, styles, Fourier features and the image stay float32.
        self.compute_dtype = torch.float32
        # True computes the paper's formulation: the measure of the fast one, not for use.
        self.reference = False
        self._derived: Derived[StyleGAN3Weights] = Derived()
        self.input = FourierInput(config.channels[0], config.w_dim, config.first_band)
        self.layers = nn.ModuleList(
            SynthesisLayer(shape, config.w_dim, config.conv_clamp) for shape in config.layers
        )

    def forward(
        self, w_plus: Tensor, noise: Noise = "const", transform: Tensor | None = None
    ) -> Tensor:
        """w_plus [N, 16, w_dim] -> images [N, 3, H, W] float32, nominally in [-1, 1].

        Args:
            noise: checked and ignored: a StyleGAN3 has none.
            transform: [3, 3] or [N, 3, 3], from where a pixel is in the image to where its content was, in
                widths of the image from its middle, y down: what NVIDIA calls `input.transform`, the inverse
                of the picture's own motion. None: the one in the file, as a rule the identity.

        Raises:
            ValueError: another shape of ``w_plus`` or ``transform``, or another word for ``noise``.
        """
        require_w_plus(w_plus, self.n_styles, self.w_dim)
        require_noise(noise)
        n = len(w_plus)
        if transform is not None and transform.shape not in ((3, 3), (n, 3, 3)):
            raise ValueError(
                f"a transform must be [3, 3] or [{n}, 3, 3], not {list(transform.shape)}"
            )
        return self.draw(w_plus.float(), noise, self.weights(self.compute_dtype), transform)

    def weights(self, dtype: torch.dtype, for_compiler: bool = False) -> StyleGAN3Weights:
        """What :meth:`draw` multiplies with: kept while the weights are frozen, made anew in training.

        Args:
            dtype: of the feature maps.
            for_compiler: for what a compiler can fuse, also where something else is faster without one.
        """
        formulation: Formulation = "reference"
        if not self.reference:
            formulation = "fused" if for_compiler or self.input.weight.is_cuda else "in_place"
        tensors = [*self.parameters(), *self.buffers()]
        key = (formulation, dtype)
        return self._derived.get(tensors, key, lambda: StyleGAN3Weights(self, formulation, dtype))

    def draw(
        self,
        w_plus: Tensor,
        noise: Noise,
        weights: StyleGAN3Weights,
        transform: Tensor | None = None,
    ) -> Tensor:
        """:meth:`forward` with weights at hand: plain tensor code, to be compiled or captured."""
        x = self.input(w_plus[:, 0], transform).to(weights.dtype)
        styles = weights.styles(w_plus)
        for layer, style, own in zip(self.layers, styles, weights.layers, strict=True):
            x = layer(x, style, own)
        return x.float() * self.output_scale


class StyleGAN3Weights:
    """What follows from a synthesis's weights alone."""

    def __init__(
        self, synthesis: StyleGAN3Synthesis, formulation: Formulation, dtype: torch.dtype
    ) -> None:
        self.formulation, self.dtype = formulation, dtype
        layers: list[SynthesisLayer] = list(synthesis.layers)  # type: ignore[arg-type]
        self.layers: list[LayerWeights] = [layer.weights(formulation, dtype) for layer in layers]
        # The first style vector moves the input.
        self.styles = Styles([layer.affine for layer in layers], range(1, len(layers) + 1))


class StyleGAN3Generator(StyleBasedGenerator):
    """StyleGAN3: ``mapping(z)`` and ``synthesis(w_plus, transform=...)``."""

    config: StyleGAN3Config
    synthesis: StyleGAN3Synthesis

    def __init__(self, config: StyleGAN3Config) -> None:
        super().__init__()
        self.config = config
        self.mapping = Mapping(config)
        self.synthesis = StyleGAN3Synthesis(config)
