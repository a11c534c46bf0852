"""What a run computes (RunConfig, fingerprinted) and how it is spread out (ClusterConfig, not)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pipeline.errors import ConfigError

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
Compile = Literal["auto", "always", "never"]
METRICS = ("mse", "psnr", "ms_ssim", "lpips", "identity")
DEFAULT_METRICS = ("mse", "psnr", "ms_ssim", "identity")  # those that need no file
METRIC_FILES = {"lpips_weights": "lpips", "lpips_heads": "lpips", "identity_model": "identity"}
LABEL_MEMBERS = ("json", "txt", "cls")  # members of a sample that may become columns
LABEL_PREFIX = "label_"  # of those columns
LABEL_TYPES = {"float": "double", "int": "int64", "bool": "bool", "str": "string"}  # to Arrow's
# Keys of a .json that make a column: dots and brackets would be taken apart by readers.
COLUMN_KEY = re.compile(r"\w[\w -]*")
# Settings that are paths: the fingerprint covers what the files hold instead.
PATHS = ("model", "then", "generator", *METRIC_FILES)
MAX_LISTED = 8  # items of a setting that a message names; more are told by their number and hash
# Beside the Parquet files of a run: what it leaves for `status`, and what is not finished.
RUN_FOLDER = "_run"
# Raised when the same settings would write other numbers or columns than before. 2: float32 is IEEE on a GPU
# too, and rows say their precision.
PROTOCOL = 2


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides the content of the output, but for the input and the weights."""

    model: str = "demo"  # checkpoint path, or "demo"
    then: str | None = None  # a second checkpoint, for all steps but the first
    generator: str | None = None  # another generator than the (second) checkpoint's own
    steps: int = 5  # passes of the residual loop
    align: str = "face"  # "face": detect, crop as FFHQ does; "none": take the image as it is
    faces: str = "largest"  # "largest" or "all": rows for each image
    metrics: tuple[str, ...] = DEFAULT_METRICS
    identity_steps: str = "last"  # "last" or "all": where identity is measured
    lpips_weights: str | None = None  # the backbone of LPIPS, a torchvision file
    lpips_heads: str | None = None  # and the learned weights on it
    identity_model: str | None = None  # a face embedding; None takes dlib's
    precision: Precision = "fp32"  # of the networks; latents are summed in float32
    latents: str = "last"  # "last", or "all" for a column with the latents of every step
    latent_dtype: str = "float32"  # or "float16"
    save_images: bool = False  # keep the aligned crop and the reconstruction in the file
    # Members beside the image that become columns, of LABEL_MEMBERS; "key=type" says what one of json is.
    keep_fields: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(
        default_factory=dict
    )  # those columns: `pipeline.shards.labels`

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", tuple(self.metrics))
        unknown = [name for name in self.metrics if name not in METRICS]
        if unknown:
            raise ConfigError(f"unknown metric {unknown[0]!r}; choose from {', '.join(METRICS)}")
        # In one order and each once, so that the same choice is the same run.
        chosen = tuple(name for name in METRICS if name in self.metrics)
        object.__setattr__(self, "metrics", chosen)
        kept, declared = _fields(self.keep_fields)
        object.__setattr__(self, "keep_fields", kept)
        object.__setattr__(self, "labels", {**declared, **self.labels})
        for name, metric in METRIC_FILES.items():
            if getattr(self, name) is not None and metric not in self.metrics:
                option = name.replace("_", "-")
                raise ConfigError(f"--{option} is for {metric}; add {metric} to --metrics")
        if self.steps < 1:
            raise ConfigError(f"--steps must be at least 1, not {self.steps}")

    def settings(self) -> dict[str, Any]:
        """The settings that the fingerprint covers: paths are left out, the weights' hashes count."""
        left_out = (*PATHS, "keep_fields", "labels")
        chosen = {name: value for name, value in asdict(self).items() if name not in left_out}
        # Named only where there are any, so that runs from before they existed go on.
        kept = {"keep_fields": list(self.keep_fields), **self.labels} if self.keep_fields else {}
        return {**chosen, "metrics": list(self.metrics), "protocol": PROTOCOL, **kept}


def _fields(words: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The fields to keep, and the columns whose type is declared."""
    names: set[str] = set()
    declared: dict[str, str] = {}
    for word in words:
        key, is_declared, type_ = word.partition("=")
        if is_declared and (key in LABEL_MEMBERS or not COLUMN_KEY.fullmatch(key)):
            raise ConfigError(f"--keep-fields cannot make a column of the key {key!r}")
        if (type_ not in LABEL_TYPES) if is_declared else (key not in LABEL_MEMBERS):
            raise ConfigError(
                f"--keep-fields takes {', '.join(LABEL_MEMBERS)}, and types of keys of the json such as "
                f"age=float ({', '.join(LABEL_TYPES)}), not {word!r}"
            )
        names.add("json" if is_declared else key)
        declared |= {LABEL_PREFIX + key: LABEL_TYPES[type_]} if is_declared else {}
    return tuple(name for name in LABEL_MEMBERS if name in names), declared


@dataclass(frozen=True)
class ClusterConfig:
    """How the work is spread; none of it changes what is written."""

    address: str | None = None  # None starts Ray here; "auto" or ADDR joins a cluster
    n_actors: int | None = None  # None: one for each GPU, or for each node where there is no GPU
    gpus_per_actor: float | None = None  # None: 1 where the cluster has GPUs, else 0
    batch_size: int | None = None  # faces inverted together; None: what fits on the device
    compile: Compile = "auto"  # the model, for a GPU or a CPU: `encoders.execution`
    n_attempts: int = 3  # tries before a shard is given up

    def __post_init__(self) -> None:
        each = self.gpus_per_actor
        if each is not None and each > 1 and each != int(each):
            raise ConfigError(f"--gpus-per-actor must be whole above 1, not {each:g}")


def fingerprint(settings: Mapping[str, Any]) -> str:
    """Hash of a run's settings, checkpoint hashes among them: 16 hex digits."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def require_same_settings(
    old: Mapping[str, Any], new: Mapping[str, Any], holds: str, advice: str
) -> None:
    """Refuse to continue in a folder that was claimed with different settings.

    Args:
        holds: the folder and what it holds, as the beginning of a sentence.
        advice: what to do besides choosing another --out.

    Raises:
        ConfigError: they differ; the differences are named.
    """
    if fingerprint(old) != fingerprint(new):
        raise ConfigError(
            f"{holds} with different settings ({difference(old, new)}); choose another --out, or {advice}"
        )


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The entries in which two runs' settings differ, for people: ``steps: 5 there, 3 now``."""
    names = sorted(old.keys() | new.keys())
    return "; ".join(
        f"{name}: {_short(old.get(name))} there, {_short(new.get(name))} now"
        for name in names
        if old.get(name) != new.get(name)
    )


def _short(value: Any) -> str:
    if isinstance(value, list) and len(value) > MAX_LISTED:
        return f"{len(value)} ({hashlib.sha256(json.dumps(value).encode()).hexdigest()[:8]})"
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text[:12] + "…" if len(text) == 64 else text  # a sha256
