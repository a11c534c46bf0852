"""Training of encoders (Alaluf et al. 2021, arXiv 2104.02699, section 3.2): one batch a step, on any device.

A batch goes through the residual loop as at inversion. The loss of every residual step is propagated on its
own, image and latents detached between steps; either the gradients of all steps make one update, or each
makes its own. Random numbers of a batch come from the seed, its number and the worker's rank, so a
continued run draws the same ones without a generator's state in its checkpoint.
"""

from __future__ import annotations

import copy
import os
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from encoders.heads import ProgressiveHeads, ProgressivePyramid, forget_unused
from encoders.inverter_file import save_inverter
from encoders.restyle import ReStyle
from encoders.training.config import PRESETS, EncoderTrainConfig
from encoders.training.discriminators import Discriminators
from encoders.training.initialisation import new_model
from encoders.training.losses import Objective
from encoders.training.optimizers import EMA, Lookahead, ranger
from encoders.training.residual_batch import Part, mirrored, parts_of, random_source
from encoders.training.validation import validate
from generators import StyleBasedGenerator
from generators.discriminator import Discriminator
from generators.stylegan2 import Synthesis
from generators.training.finite import FiniteCheck
from generators.training.parallel import average_gradients, broadcast_parameters, n_workers
from generators.training.protocol import NotFinite, Validation

__all__ = ["PRESETS", "EncoderTrainConfig", "EncoderTrainer", "NotFinite", "Validation"]

SAVED_AS = {
    "discriminators": "critics"
}  # where checkpoints have another name for an attribute's state


class EncoderTrainer:
    """An encoder, its average over time, the discriminators beside it, and one step of their training."""

    def __init__(
        self,
        config: EncoderTrainConfig,
        generator: StyleBasedGenerator,
        device: str | torch.device = "cpu",
    ) -> None:
        """
        Raises:
            CheckpointError: a file that the settings need is missing, or of another kind.
            ValueError: settings that do not fit the generator or each other.
        """
        self.config, self.device = config, torch.device(device)
        self.model = new_model(config, generator).to(device)
        self.encoder = self.model.encoder
        self.objective = Objective(config, self.model.generator).to(device).eval()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.discriminators = Discriminators(
                config, config.discriminator_learning_rate, self.model.generator
            )
        for network in (self.encoder, *self.discriminators.networks):
            broadcast_parameters(network)
        self.optimizer = _optimizer(config, list(self.encoder.parameters()))
        # What is validated and saved; float32 throughout, whatever the precision of training.
        self.finished = copy.deepcopy(self.model).requires_grad_(False).eval()
        self.average = EMA(self.finished.encoder)
        self.model.train()
        self._is_half = config.precision == "bf16"
        if self._is_half:
            _draw_in_half(self.model, self.objective, *self.discriminators.networks)
        self.global_step = 0  # done so far

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the images: the encoder's, or with an image discriminator the generator's."""
        if self.discriminators.image is not None:
            return self.model.view.size(self.model.generator.resolution)
        return self.model.input_size

    def need(self) -> None:
        """Memory of a batch: it has not been measured for all that this can be made of."""

    def step(
        self, images: Tensor, z: Tensor | None = None, labels: Tensor | None = None
    ) -> dict[str, float]:
        """Train on one batch.

        Args:
            images: [N, 3, h, w] in [-1, 1], on any device.
            z: [N, z_dim] that they were drawn from, for the term `pull`.
            labels: not used.

        Returns: the terms of the last residual step without their weights; `total`, the sum with them; and
            the discriminators' own losses.

        Raises:
            NotFinite: a term or a gradient is no number. The update that it belongs to was not made, nor any
                after it; for images that are no numbers that is all of them.
        """
        config, draw = self.config, self._draw(self.device)
        if not images.isfinite().all():  # where they are: on the CPU, as a rule
            raise NotFinite(f"batch {self.global_step}: the images contain NaN or infinity")
        images = images.to(self.device, torch.float32)
        if config.flip:
            images, z = mirrored(images, draw), None
        z = z if z is None else z.to(self.device, torch.float32)
        parts = parts_of(images, z, self.model, config, draw)
        terms = self._teach_encoder(parts, len(images))
        terms |= self._train_discriminators(images, parts, draw)
        self.global_step += 1
        return terms

    def _teach_encoder(self, parts: list[Part], n_images: int) -> dict[str, float]:
        """The residual loop with its updates; the terms of its last step.

        Unless an optimizer needs to know sooner, numbers are fetched from the device once, at the end.
        """
        config, check = self.config, FiniteCheck(self.device)
        n_steps, n_averaged = config.n_steps_at(self.global_step), self.average.n_updates
        statistics = [buffer.clone() for buffer in self.encoder.buffers()]
        self._prepare()
        try:
            for _ in range(n_steps):
                terms = _mean([self._residual_step(part) for part in parts], parts)
                check.report(terms)
                check.expect(terms, f"batch {self.global_step}: the term {{name}} is {{value}}")
                if config.update_every_step:
                    self._update(n_images / n_steps, check)
            if not config.update_every_step:
                self._update(n_images, check)
            return check.fetch()
        except NotFinite:
            if config.ema_half_life:
                self.average.n_updates = n_averaged + check.n_updates
            for buffer, before in zip(self.encoder.buffers(), statistics, strict=True):
                buffer.copy_(before)
            raise

    def _draw(self, device: torch.device) -> torch.Generator:
        """What is random in the batch that comes, on a device."""
        return random_source(self.config.seed, self.global_step, device)

    def _prepare(self) -> None:
        """Learning rate, stage and gradients for the batch that comes."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate_at(self.global_step)
        _set_stage(self.encoder, self.config.stage_at(self.global_step))
        self.optimizer.zero_grad()

    def _residual_step(self, part: Part) -> dict[str, Tensor]:
        """One pass of the loop, its gradients added to those that are there. The terms of its loss."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._is_half):
            latents = self.model.step(part.seen, part.reconstruction, part.latents)
        drawn = self.model.draw(latents)
        reconstruction = self.model.to_input(drawn)
        judged = self.discriminators.judge(drawn, latents[:, : self._n_used])
        terms = self.objective(reconstruction, part.target, latents, part.w, judged)
        (terms["total"] * part.share).backward()
        part.latents, part.reconstruction = latents.detach(), reconstruction.detach()
        part.drawn = drawn.detach() if self.discriminators.image is not None else None
        return {name: term.detach() for name, term in terms.items()}

    def _update(self, n_images: float, check: FiniteCheck) -> None:
        """One step of the optimizer on the gradients that are there, of so many images on each worker."""
        parameters = list(self.encoder.parameters())
        average_gradients(parameters)
        norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
        check.expect(
            {"norm": norm}, f"batch {self.global_step}: the norm of the gradients is {{value}}"
        )
        if self.config.clip:
            clip_grads_with_norm_(parameters, self.config.clip, norm)
        check.step(self.optimizer)
        self.optimizer.zero_grad()
        if self.config.ema_half_life:
            keep = 0.5 ** (n_images * n_workers() / self.config.ema_half_life)
            self.average.update(self.encoder, keep, check.failed)

    def _train_discriminators(
        self, images: Tensor, parts: list[Part], draw: torch.Generator
    ) -> dict[str, float]:
        """An update of each discriminator on what the last step made of the batch."""
        losses: dict[str, float] = {}
        if self.discriminators.image is not None:
            fake = torch.cat([part.drawn for part in parts if part.drawn is not None])
            losses |= self.discriminators.image.update(images, fake)
        if self.discriminators.latent is not None:
            mapping = self.model.generator.mapping
            z = torch.randn(len(images), mapping.z_dim, generator=draw, device=self.device)
            real = mapping(z, labels=mapping.random_labels(len(images), draw))
            latents = torch.cat([part.latents for part in parts])[:, : self._n_used]
            # The pool's choices are branches of the program, so they are drawn where it runs.
            choices = draw if self.device.type == "cpu" else self._draw(torch.device("cpu"))
            losses |= self.discriminators.latent.update(real, latents, choices)
        return losses

    @property
    def _n_used(self) -> int:
        """Styles that are not yet copies of the first."""
        n_styles, stage = self.model.generator.n_styles, self.config.stage_at(self.global_step)
        return n_styles if stage is None else min(n_styles, 1 + stage)

    def validate(
        self, images: Tensor, z: Tensor | None = None, labels: Tensor | None = None
    ) -> Validation:
        """How good the averaged encoder is on images [N, 3, h, w] in [-1, 1]; see `validation.validate`.

        Args:
            z, labels: not used.
        """
        n_steps = 1 if self.config.single_pass else self.config.n_steps
        images = images.to(self.device, torch.float32)
        return validate(self._finish(), self.objective, images, n_steps, self.config.batch_size)

    def save(self, path: str | os.PathLike, notes: str) -> None:
        """Write the averaged encoder as an inverter file."""
        model = self._finish()
        if self.config.progressive_start:
            model = _without_unused(model)
        save_inverter(path, model, self.config.generator_name, notes)

    def _finish(self) -> ReStyle:
        """The model as it is to be used: with the average, or if none is kept, the latest weights."""
        if not self.config.ema_half_life:
            self.finished.encoder.load_state_dict(self.encoder.state_dict())
        _set_stage(self.finished.encoder, self.config.stage_at(max(self.global_step - 1, 0)))
        return self.finished

    @property
    def _parts(self) -> list[str]:
        """Attributes that have a state."""
        averages = ["average"] if self.config.ema_half_life else []
        return ["encoder", "optimizer", "discriminators", *averages]

    def effort_at(self, global_step: int) -> float:
        """What the batch after `global_step` takes: its residual steps."""
        return self.config.n_steps_at(global_step)

    def state_dict(self) -> dict[str, Any]:
        """All that continues to the same weights: tensors, numbers and containers of them."""
        parts = {SAVED_AS.get(n, n): getattr(self, n).state_dict() for n in self._parts}
        return {**parts, "n_batches": self.global_step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken by a trainer with the same settings."""
        for name in self._parts:
            getattr(self, name).load_state_dict(state[SAVED_AS.get(name, name)])
        self.global_step = state["n_batches"]


def _set_stage(encoder: nn.Module, stage: int | None) -> None:
    """How many styles have an offset in use; None leaves it."""
    if stage is not None:
        _progressive(encoder).stage = stage


def _progressive(encoder: nn.Module) -> ProgressiveHeads | ProgressivePyramid:
    heads = encoder.get_submodule("heads")
    assert isinstance(heads, ProgressiveHeads | ProgressivePyramid), "checked when it was made"
    return heads


def _without_unused(model: ReStyle) -> ReStyle:
    """The model with offsets that are not in use yet as zero: a file holds no stage."""
    encoder = copy.deepcopy(model.encoder)
    forget_unused(_progressive(encoder))
    kept = model.generator, model.latent_avg, model.input_size
    return type(model)(encoder, *kept, view=model.view, bound=model.bound)


def _draw_in_half(*networks: nn.Module) -> None:
    """Feature maps of generator and discriminators in bfloat16."""
    for network in networks:
        for module in network.modules():
            if isinstance(module, Synthesis | Discriminator):
                module.compute_dtype = torch.bfloat16


def _optimizer(
    config: EncoderTrainConfig, parameters: list[nn.Parameter]
) -> torch.optim.Optimizer | Lookahead:
    if config.optimizer == "ranger":
        return ranger(parameters, config.learning_rate)
    betas = (0.9, config.beta2)
    return torch.optim.Adam(parameters, lr=config.learning_rate, betas=betas, fused=True)


def _mean(terms: list[dict[str, Tensor]], parts: list[Part]) -> dict[str, Tensor]:
    """Terms of a whole batch from those of its parts."""
    shares = [part.share for part in parts]
    pairs = list(zip(terms, shares, strict=True))
    return {name: torch.stack([of[name] * share for of, share in pairs]).sum() for name in terms[0]}
