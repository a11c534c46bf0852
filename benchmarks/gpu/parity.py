"""Numbers on the device: against the published code's, and of one image alone, in a batch, filled up."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.gpu import model as models
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.record import ROOT
from encoders.execution import CudaGraph, Execution, Plan, Run
from encoders.metrics import distances
from encoders.metrics.dlib_face import load_dlib_face
from generators import Generator, load_generator
from generators.files import checkpoint, rosinality
from generators.precision import Precision, dtype_of, float32_products

PART = "parity"
# In float32; the tests' own.
LATENTS_ATOL, IMAGES_ATOL, ALONE_ATOL, DESCRIPTORS_ATOL = 1e-4, 1e-3, 1e-6, 1e-6


def run(bench: Bench) -> None:
    drawn = {"stylegan2_ada_64": partial(_ada_64, bench)}
    if not bench.small:
        drawn |= {"generator256": partial(_generator256, bench), models.CASE: partial(_case, bench)}
    for case, job in drawn.items():
        for precision in bench.precisions:
            bench.attempt(PART, {"case": case, "precision": precision}, partial(job, precision))
    for precision in bench.precisions:
        for case, alone in (("to float32", _to_float32), ("alone", _alone)):
            job = partial(alone, bench, precision)
            bench.attempt(PART, {"case": case, "precision": precision}, job)
    bench.attempt(PART, {"case": "dlib's descriptors", "precision": "fp32"}, partial(_dlib, bench))


def _expected(case: str) -> dict[str, np.ndarray]:
    with np.load(models.PARITY / f"{case}.npz") as file:
        return dict(file)


def _off(found: Tensor, expected: np.ndarray) -> float:
    return float(np.abs(found.float().cpu().numpy() - expected).max())


def _middle(images: Tensor) -> Tensor:
    rows, columns = (slice(side // 2 - 8, side // 2 + 8) for side in images.shape[-2:])
    return images[:, :, rows, columns]


def _judged(precision: Precision, images: float, latents: float | None = None) -> dict[str, Any]:
    """A row; float32 is held to the tests' tolerances."""
    holds = images <= IMAGES_ATOL and (latents or 0.0) <= LATENTS_ATOL
    row: dict[str, Any] = {"holds": holds} if precision == "fp32" else {}
    return row | {"images_off": images, "latents_off": latents}


@torch.no_grad()
def _drawn(
    bench: Bench, generator: Generator, case: str, precision: Precision, w: Tensor
) -> dict[str, Any]:
    """The published images of `w` [N, w_dim], as blocks and in the middle."""
    generator = generator.to(bench.device).requires_grad_(False)
    generator.synthesis.compute_dtype = dtype_of(precision)
    expected = _expected(case)
    w_plus = w.to(bench.device)
    if w_plus.ndim == 2:
        w_plus = w_plus[:, None].expand(-1, generator.n_styles, -1)
    with float32_products(precision):
        images = generator.synthesis(w_plus)
    block = images.shape[-1] // expected["pooled"].shape[-1]
    pooled = _off(F.avg_pool2d(images, block), expected["pooled"])
    return _judged(precision, max(pooled, _off(_middle(images), expected["patch"])))


def _ada_64(bench: Bench, precision: Precision) -> dict[str, Any]:
    generator = load_generator(models.PARITY / "stylegan2_ada_64.pkl")
    w = torch.from_numpy(_expected("stylegan2_ada_64")["w"])
    return _drawn(bench, generator, "stylegan2_ada_64", precision, w)


def _generator256(bench: Bench, precision: Precision) -> dict[str, Any]:
    shapes = {f"decoder.{key}": shape for key, shape in models.described("generator256").items()}
    state = models.parity_weights().from_shapes(shapes)
    state = {key.removeprefix("decoder."): value for key, value in state.items()}
    config, tensors = rosinality.convert(state, "generator256")
    generator = checkpoint.restore(lambda: Generator(config), tensors, "generator256")
    w = torch.from_numpy(_expected("generator256")["w"])
    return _drawn(bench, generator, "generator256", precision, w)


def _case(bench: Bench, precision: Precision) -> dict[str, Any]:
    """The whole inversion of the model that is timed."""
    expected, told = _expected(models.CASE), models.described(models.CASE)
    image = models.parity_weights().image(models.CASE, *told["input"][2:]).to(bench.device)
    with bench.running("eager", precision) as model:
        found = model.invert(image, told["steps"], keep_images=True)
    images = found.images[:, 0]
    pooled = _off(F.avg_pool2d(images, images.shape[-1] // 32), expected["pooled"])
    patch = _off(_middle(images), expected["patch"])
    latents = _off(found.latents[:, 0], expected["latents"])
    return _judged(precision, max(pooled, patch), latents)


def _some(bench: Bench) -> Tensor:
    return bench.pixels[:4].to(bench.device)


def _to_float32(bench: Bench, precision: Precision) -> dict[str, Any]:
    """After the last step: largest error of a latent, and the decibels of the worst image."""
    with bench.running("eager", "fp32") as model:
        exact = model.invert_pixels(_some(bench), bench.sizes.steps)
    with bench.running("eager", precision) as model:
        found = model.invert_pixels(_some(bench), bench.sizes.steps)
    return {
        "latents_off": (found.latents - exact.latents)[-1].abs().max().item(),
        "latents_std": exact.latents[-1].std().item(),
        "psnr_db": distances.psnr(found.images, exact.images).min().item(),
        "finite": bool(found.latents.isfinite().all()),
    }


def _as_is(run: Run, example: Tensor) -> Run:
    """In place of a capture where there is no GPU: batches are filled up all the same."""
    run(example)
    return run


def _alone(bench: Bench, precision: Precision) -> dict[str, Any]:
    """How far the first image's latents are apart: in a batch, alone, filled up, beside one of NaN."""
    steps, some = bench.sizes.steps, _some(bench)
    with bench.running("eager", "fp32") as model:
        exact = model.invert_pixels(some, steps).latents[:, 0]
    with bench.running("eager", precision) as model:
        together = model.invert_pixels(some, steps)
        found = {"alone": model.invert_pixels(some[:1], steps).latents}
        model.execution = Execution(Plan(graph=True), capture=CudaGraph if bench.is_gpu else _as_is)
        captured = model.invert_pixels(some, steps)
        found["captured"] = captured.latents
        found["filled_up"] = model.invert_pixels(some[:1], steps).latents
        spoilt = captured.target.clone()
        spoilt[1] = torch.nan
        found["beside_nan"] = model.invert(spoilt, steps).latents
    expected = together.latents[:, 0]
    apart = {name: (latents[:, 0] - expected).abs().max().item() for name, latents in found.items()}
    own_error = (expected - exact).abs().max().item()
    is_exact = precision == "fp32"
    allowed = ALONE_ATOL if is_exact else own_error
    # A value that is not finite is no value within it.
    return {"holds": all(x <= allowed for x in apart.values()), **apart, "allowed": allowed}


def _dlib(bench: Bench) -> dict[str, Any]:
    if bench.dlib_model is None:
        return {"note": "not checked: --dlib-model FILE says where dlib's network is"}
    with np.load(ROOT / "tests" / "data" / "dlib_face" / "chips.npz") as file:
        chips, expected = torch.from_numpy(file["chips"]), file["descriptors"]
    found = load_dlib_face(bench.dlib_model).to(bench.device).describe(chips)
    off = _off(found, expected)
    return {"holds": off <= DESCRIPTORS_ATOL, "descriptors_off": off}
