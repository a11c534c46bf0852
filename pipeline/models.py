"""A run's model: loaded, hashed, refused if it is another, drawn with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import torch

from encoders import Bootstrap, ReStyle, bootstrap, load_inverter, require_precision
from generators.delta import Delta
from generators.files import download
from generators.files.addresses import is_address
from generators.files.checkpoint import CheckpointError, tensors_sha256
from generators.precision import float32_products
from pipeline.config import MODEL, Precision, RunConfig, setting
from pipeline.errors import ConfigError, OutOfMemory
from pipeline.faces.images import to_u8
from pipeline.storage import redact

# Weights that `demo` once was: the hash of the encoder, its version, and a commit that holds it.
EARLIER_DEMOS = {
    "f8add509f159457b1f76a2e5efa43be1290be284310e241c3ac6319d5bd8abdb": ("1", "c6b263e"),
}


@dataclass(frozen=True, kw_only=True)
class DrawConfig:
    """How latents are drawn: by which generator, how exactly, how many together."""

    model: str | None = setting(
        None, "Where the encoder checkpoint is now. Default: where the run had it.", MODEL
    )
    generator: str | None = setting(None, "The same for a separate generator file.", MODEL)
    precision: Precision = setting("fp32", "Of the generator; latents stay as they are.", MODEL)
    batch_size: int = setting(8, "Pictures drawn together.", MODEL, least=1)


def load_model(run: RunConfig) -> ReStyle | Bootstrap:
    """The model of a run on the CPU in float32; two of them where the second goes on from the first.

    Raises:
        CheckpointError, ConfigError: a file cannot be used, or the two, or the steps, do not fit.
    """
    if run.then is None:
        model = load_inverter(run.model, run.generator, compile="never", bound=run.bound)
        if model.max_steps is not None and run.steps > model.max_steps:
            raise ConfigError(
                f"{run.model} is a single-pass encoder (pSp, e4e), which has one step, not "
                f"{run.steps}; pass --steps 1, or add a ReStyle encoder with --then"
            )
        return model
    first = load_inverter(run.model, compile="never", bound=run.bound)
    try:
        second = load_inverter(run.then, run.generator, compile="never", bound=run.bound)
        return bootstrap(first, second)
    except CheckpointError:
        raise
    except ValueError as error:
        raise ConfigError(f"--then {run.then} cannot follow {run.model}: {error}") from None


def checkpoint_hashes(model: ReStyle | Bootstrap) -> dict[str, str]:
    """Identity of the weights in use, whatever files they came in; of a model in float32."""
    if isinstance(model, Bootstrap):
        first, second = checkpoint_hashes(model.first), checkpoint_hashes(model.second)
        return second | {f"first_{name}": digest for name, digest in first.items()}
    encoder = {**model.encoder.state_dict(), "latent_avg": model.latent_avg}
    if model.bound is not None:
        encoder |= model.bound.identity()
    return {
        "encoder_sha256": tensors_sha256(encoder),
        "generator_sha256": tensors_sha256(model.generator.state_dict()),
    }


def bounds(model: ReStyle | Bootstrap) -> dict[str, float]:
    """The bound of a model's latents in standard deviations of W, for a footer; nothing without one."""
    if isinstance(model, Bootstrap):
        first = {f"first_{name}": limit for name, limit in bounds(model.first).items()}
        return first | bounds(model.second)
    return {} if model.bound is None else {"bound": model.bound.limit}


def advice(settings: Mapping[str, Any] | None) -> str:
    """What to do, besides choosing another --out, to go on in a folder of these settings."""
    version, commit = EARLIER_DEMOS.get(str((settings or {}).get("encoder_sha256")), ("", ""))
    if not version:
        return "pass --overwrite"
    name = f"demo_v{version}.safetensors"
    return (
        f"pass --overwrite, or go on with version {version} of the demo, which made the folder: take it from "
        f"the project's history (git show {commit}:encoders/weights/demo.safetensors > {name}) and pass "
        f"--model {name}"
    )


def load_generating_model(
    footer: Mapping[str, Any], model: str | None = None, generator: str | None = None
) -> ReStyle:
    """The model whose generator a run's latents belong to, on the CPU in float32.

    Args:
        footer: of a file of the run; names its model and says what its weights were.
        model, generator: where the checkpoints are now; None takes the paths that the run used.

    Raises:
        CheckpointError, ConfigError: no such file, or other weights than the run had.
    """
    if "model" not in footer or "identity" not in footer:
        raise ConfigError("these latents do not record their model, as `restyle invert` does")
    path = model or _here(footer.get("then") or footer["model"], "--model")
    loaded = load_inverter(path, generator or _here(footer.get("generator"), "--generator"))
    ours = checkpoint_hashes(loaded)["generator_sha256"]
    theirs = str(footer["identity"].get("generator_sha256"))
    if ours != theirs:
        raise ConfigError(
            f"the generator of {PurePath(path).name} is not the one that the latents were made with "
            f"(sha256 {ours[:12]}, the run used {theirs[:12]}); pass the checkpoint of the run as "
            "--model"
        )
    return loaded


def footer_name(checkpoint: str | None) -> str | None:
    """A checkpoint as a footer names it: its path, or its address and sha256 without a signature."""
    if checkpoint is None or not is_address(checkpoint):
        return checkpoint
    address, mark, pin = checkpoint.partition("#")
    return redact(address) + mark + pin


def _here(name: Any, flag: str) -> Any:
    """A checkpoint that a footer names, where it is on this machine: no server is asked for what files name.

    Raises:
        ConfigError: it is an address, and what it held is not in the cache.
    """
    if not is_address(name):
        return name
    path = download.kept(name)
    if path is None:
        address = redact(name.partition("#")[0])
        raise ConfigError(
            f"these latents name {address} as their checkpoint, and addresses in files are not followed; if "
            f"you trust it, pass it as {flag}"
        )
    return path


class LatentRenderer:
    """Draws what latents of one run show, on a GPU where there is one.

    Args:
        footer: of a file of the run; names its model and says what its weights were.
        config: where the checkpoints are now, and how they draw.

    Raises:
        CheckpointError, ConfigError: no such file, or other weights than the run had.
    """

    def __init__(self, footer: Mapping[str, Any], config: DrawConfig | None = None) -> None:
        config = config or DrawConfig()
        device = "cuda:0" if torch.cuda.is_available() else "cpu"
        try:
            require_precision(config.precision, device)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        model = load_generating_model(footer, config.model, config.generator)
        self._model = model.at(config.precision).to(device)
        self._batch_size = config.batch_size

    @property
    def model(self) -> ReStyle:
        """The run's model, frozen, on the device that draws."""
        return self._model

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a picture."""
        return self._model.view.size(self._model.generator.resolution)

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of what the run's encoder sees."""
        return self._model.input_size

    @property
    def latent_avg(self) -> np.ndarray:
        """[n_styles, w_dim] float32."""
        return self._model.latent_avg.cpu().numpy()

    def draw(self, latents: np.ndarray, delta: Delta | None = None) -> list[np.ndarray]:
        """The pictures of latents [N, n_styles, w_dim], each [H, W, 3] uint8.

        Args:
            delta: what the generator is changed by for these, on this one's device; None: nothing.

        Raises:
            OutOfMemory: so many do not fit.
            ConfigError: they are of another shape than the generator takes.
        """
        if not len(latents):
            return []
        generator = self._model.generator
        if latents.shape[1:] != (generator.n_styles, generator.w_dim):
            raise ConfigError(
                f"a latent of shape {list(latents.shape[1:])} is not for this generator, which takes "
                f"[{generator.n_styles}, {generator.w_dim}]; `restyle verify` on its folder lists what is "
                "damaged"
            )
        device = self._model.latent_avg.device
        pictures = []
        try:
            with torch.inference_mode(), float32_products(self._model.precision):
                for chunk in torch.from_numpy(latents).float().split(self._batch_size):
                    pictures += [to_u8(image) for image in self._drawn(chunk.to(device), delta)]
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemory(
                f"{self._batch_size} pictures do not fit in memory together; pass a smaller "
                "--batch-size, or --precision bf16"
            ) from None
        return pictures

    def _drawn(self, latents: torch.Tensor, delta: Delta | None) -> torch.Tensor:
        if delta is None:
            return self._model.draw(latents)
        return self._model.view.of(delta.draw(self._model.generator.synthesis, latents))


def is_out_of_memory(error: RuntimeError) -> bool:
    """torch.OutOfMemoryError on a GPU; on a CPU a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)
