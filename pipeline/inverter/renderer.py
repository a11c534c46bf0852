"""What a loaded model draws of latents, and where a direction leads in them."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from encoders import Bootstrap, ReStyle
from encoders.pivotal import TuningConfig, tune
from generators import StyleBasedGenerator
from generators.delta import Delta
from generators.precision import Precision, float32_products
from pipeline.editing import expression
from pipeline.editing.framing import Framing
from pipeline.errors import ConfigError, OutOfMemory
from pipeline.faces.images import to_u8
from pipeline.models import framed, is_out_of_memory


class Renderer:
    """Draws latents one by one, as an inversion drew them."""

    def __init__(self, model: ReStyle | Bootstrap) -> None:
        self._model = model

    def __repr__(self) -> str:
        return f"Renderer({self._model.generator.resolution} px)"

    def picture(
        self, latent: Tensor, precision: Precision | None = None, delta: Delta | None = None
    ) -> Image.Image:
        """The picture of a latent [n_styles, w_dim], at the generator's full size.

        precision: None is the model's own.
        delta: what the generator is changed by; None: nothing.

        Raises:
            OutOfMemory: it does not fit.
        """
        latents = latent[None].to(self._model.latent_avg.device)
        try:
            # On a GPU the copy waits for the work, so that an error of the device shows here.
            if delta is not None:
                return Image.fromarray(to_u8(self._changed(latents, delta)[0]))
            return Image.fromarray(to_u8(self._model.draw_kept(latents, precision)[0]))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        raise OutOfMemory("the picture does not fit in memory; pass --precision bf16")

    def framed(
        self,
        latent: Tensor,
        framing: Framing,
        place: Mapping[str, Any],
        delta: Delta | None = None,
    ) -> Image.Image:
        """The picture of a latent [n_styles, w_dim] turned and with margins, by a StyleGAN3.

        place: `quad` and `landmarks` of the face, and its `key`, for errors.
        delta: what the generator is changed by; None: nothing.

        Raises:
            ConfigError: the generator is no StyleGAN3.
            OutOfMemory: it does not fit.
        """
        own = self._own
        framing.require_model(own)
        moved = framing.transforms([place]), framing.margins
        try:
            with torch.inference_mode(), float32_products(own.precision):
                [image] = framed(own, latent[None].to(own.latent_avg.device), delta, *moved)
                return Image.fromarray(to_u8(image))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        raise OutOfMemory("the picture does not fit in memory; pass --precision bf16")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a picture."""
        return self._own.view.size(self._own.generator.resolution)

    def tune(self, latent: Tensor, picture_u8: np.ndarray, n_steps: int, seed: int) -> Delta:
        """What the generator is to be changed by to draw a picture [h, w, 3] at a latent [n_styles, w_dim].

        Raises:
            OutOfMemory: it does not fit.
        """
        target = torch.from_numpy(picture_u8).permute(2, 0, 1).float() / 127.5 - 1
        try:
            return tune(self._own, latent, target, TuningConfig(n_steps), seed).delta
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        raise OutOfMemory("what tuning needs does not fit in memory; use a machine with more of it")

    @property
    def _own(self) -> ReStyle:
        """The model that draws."""
        return self._model.second if isinstance(self._model, Bootstrap) else self._model

    def _changed(self, latents: Tensor, delta: Delta) -> Tensor:
        own = self._own
        with torch.inference_mode(), float32_products(own.precision):
            return framed(own, latents, delta)

    def direction(self, given: Any) -> tuple[str, Tensor]:
        """A name for people, and the direction [n_styles, w_dim] float32 on the CPU.

        given: an expression as `restyle edit --direction` takes it, a path, or a tensor or array
            [w_dim] or [n_styles, w_dim].

        Raises:
            ConfigError, CheckpointError: it cannot be read, or is of another latent space.
        """
        generator = self._model.generator
        shape = generator.n_styles, generator.w_dim
        if isinstance(given, str | os.PathLike):
            parsed = expression.parse(str(given))
            return parsed.name, expression.resolve(parsed, *shape, self._on_cpu)
        if not isinstance(given, Tensor | np.ndarray):
            raise ConfigError(
                f"a direction is a name such as 'demo:smile', a path, or an array [{shape[0]}, {shape[1]}], "
                f"not of type {type(given).__name__}"
            )
        vectors = torch.as_tensor(given).detach().cpu().float()
        if tuple(vectors.shape) not in (shape, shape[1:]) or not vectors.isfinite().all():
            raise ConfigError(
                f"a direction of this generator is [{shape[0]}, {shape[1]}] or [{shape[1]}] finite numbers, "
                f"not {list(vectors.shape)}"
            )
        return "direction", vectors.expand(shape)

    def _on_cpu(self) -> StyleBasedGenerator:
        generator = self._model.generator
        on_cpu = self._model.latent_avg.device.type == "cpu"
        return generator if on_cpu else copy.deepcopy(generator).cpu()
