"""What a run computes (RunConfig, fingerprinted) and how it is spread out (ClusterConfig, not)."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pipeline.clip_config import ClipConfig
from pipeline.errors import ConfigError
from pipeline.settings import ALIGNMENT, CLUSTER, INPUT, METRIC, MODEL, OUTPUT, setting
from pipeline.settings import CLIPS as CLIPS
from pipeline.settings import EDIT as EDIT  # who has settings takes all of them from here
from pipeline.settings import PATH as PATH

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
Compile = Literal["auto", "always", "never"]
Executor = Literal["auto", "local", "ray"]
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
OF_LABELS = ("label_file", "label_on", "label_columns", "label_sha256", "class_label")
MAX_LISTED = 8  # items of a setting that a message names; more are told by their number and hash
# Beside the Parquet files of a run: what it leaves for `status`, and what is not finished.
RUN_FOLDER = "_run"
FOOTER_KEY = b"restyle"  # of their record, in the footers of the Parquet files
# Raised when the same settings would write other numbers or columns than before. 2: float32 is IEEE on a GPU
# too, and rows say their precision. 3: reconstructions are clamped, then measured; identity by dlib is
# 1 - distance, rows say their best step, and arrays are lists of any length outside.
PROTOCOL = 3
AUTO = -1  # for a number of steps: as many as an image needs
AUTO_GAIN = 0.01  # of its mse, by which a step must lower it for another to follow
MAX_STEPS = 1000  # of the residual loop: all their thumbnails are held
MAX_REFINE = 10_000
REFINE_WEIGHTS = ("refine_near", "refine_lpips", "refine_identity")
REFINE = {"fast": 11, "best": 38}  # steps of --refine by name: docs/quality.md has what they bring
MAX_BOUND = 1000  # standard deviations of W: far beyond any latent


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides the content of the output, but for the input and the weights."""

    model: str = setting("demo", "Encoder checkpoint, or demo.", MODEL)
    then: str | None = setting(
        None, "Second checkpoint: the first takes one step, this one the others.", MODEL
    )
    generator: str | None = setting(
        None, "Generator file to use instead of the (last) checkpoint's own.", MODEL
    )
    steps: int = setting(
        5,
        "Passes of the residual loop, or auto: each image stops when its error falls by less than "
        f"{AUTO_GAIN:.0%}.",
        MODEL,
        least=1,
        most=MAX_STEPS,
        words={"auto": AUTO},
    )
    max_steps: int = setting(
        10, "Steps of an image at most, with --steps auto.", MODEL, least=1, most=MAX_STEPS
    )
    init: Literal["average", "random"] = setting(
        "average",
        "Where the loop starts. random: a latent of W for each row, drawn by its key.",
        MODEL,
    )
    bound: float | None = setting(
        None,
        "Keep latents softly within so many standard deviations of W along each of its axes; 0: no bound. "
        "Default: as the checkpoint says.",
        MODEL,
    )
    precision: Precision = setting("fp32", "Of the networks; latents stay float32.", MODEL)
    refine: int = setting(
        0,
        "Steps of gradient descent on each latent after the loop, from its best step: fast "
        f"({REFINE['fast']}), best ({REFINE['best']}) or a number. The answer counts as one more step.",
        MODEL,
        least=0,
        most=MAX_REFINE,
        words=REFINE,
    )
    refine_near: float = setting(
        0.0,
        "Hold the refined latent near the encoder's, for edits: 0.001 is a little, 0.1 is much.",
        MODEL,
        least=0,
    )
    refine_lpips: float = setting(
        0.0, "Weight of lpips in what --refine makes small, beside mse.", MODEL, least=0
    )
    refine_identity: float = setting(
        0.0, "The same for 1 - identity, with --identity-model.", MODEL, least=0
    )
    align: Literal["face", "none"] = setting(
        "face", "face: detect and crop as FFHQ does. none: take images as they are.", ALIGNMENT
    )
    faces: Literal["largest", "all"] = setting(
        "largest", "Which faces of an image become rows.", ALIGNMENT
    )
    metrics: tuple[str, ...] = setting(
        DEFAULT_METRICS, "Comma-separated, also lpips; empty for none.", METRIC
    )
    identity_steps: Literal["last", "all"] = setting(
        "last", "Steps at which identity is measured.", METRIC
    )
    lpips_weights: str | None = setting(
        None, "For lpips: torchvision's alexnet or vgg16 file.", METRIC
    )
    lpips_heads: str | None = setting(
        None, "For lpips: its own weights, alex.pth or vgg.pth.", METRIC
    )
    identity_model: str | None = setting(
        None, "For identity: model_ir_se50.pth. Default: dlib's network.", METRIC
    )
    latents: Literal["last", "best", "all"] = setting(
        "last",
        "Which step is kept: the last, or each row's of least mse. all: the last, and a column with the "
        "latents of every step.",
        OUTPUT,
    )
    latent_dtype: Literal["float32", "float16"] = setting(
        "float32", "How latents are stored.", OUTPUT
    )
    save_images: bool = setting(False, "Keep aligned crops and reconstructions.", OUTPUT)
    keep_fields: tuple[str, ...] = setting(
        (),
        "Members of a sample that become columns: json, txt, cls, comma-separated. age=float says what "
        "a key of the json is; otherwise its first values decide.",
        INPUT,
    )
    label_file: str | None = setting(
        None,
        "CSV or Parquet file with labels of many images, which become columns as those of a .json do.",
        INPUT,
        flag="labels",
    )
    label_on: str = setting(
        "key",
        "Column of --labels that holds the keys of images, or names of their files.",
        INPUT,
        flag="on",
    )
    label_columns: tuple[str, ...] = setting(
        (),
        "Columns of --labels to keep, comma-separated; age=float says what one holds. Default: all.",
        INPUT,
    )
    class_label: str | None = setting(
        None,
        "For --init random: label with a row's class, as cls. Default: drawn by its key.",
        INPUT,
    )
    label_sha256: str = ""  # of the file
    # The columns that they make, by name: `pipeline.shards.labels`.
    labels: Mapping[str, str] = field(default_factory=dict)
    auto: bool = False  # whether images take steps of their own, up to `steps`
    clips: ClipConfig | None = None  # of samples that are frames of clips: how they are followed

    def __post_init__(self) -> None:
        if self.steps == AUTO:
            object.__setattr__(self, "steps", self.max_steps)
            object.__setattr__(self, "auto", True)
        object.__setattr__(self, "metrics", tuple(self.metrics))
        unknown = [name for name in self.metrics if name not in METRICS]
        if unknown:
            raise ConfigError(f"unknown metric {unknown[0]!r}; choose from {', '.join(METRICS)}")
        # In one order and each once, so that the same choice is the same run.
        chosen = tuple(name for name in METRICS if name in self.metrics)
        object.__setattr__(self, "metrics", chosen)
        if self.label_columns and self.label_file is None:
            raise ConfigError("--label-columns are those of --labels; pass the file too")
        # Of a frame's labels, its time is wanted to make a video of its rows again.
        kept, declared = _fields([*self.keep_fields, *(["json"] if self.clips else [])])
        object.__setattr__(self, "keep_fields", kept)
        object.__setattr__(self, "labels", {**declared, **self.labels})
        for name, metric in METRIC_FILES.items():
            if getattr(self, name) is not None and metric not in self.metrics:
                option = name.replace("_", "-")
                raise ConfigError(f"--{option} is for {metric}; add {metric} to --metrics")
        if not 1 <= self.steps <= MAX_STEPS:
            raise ConfigError(f"--steps must be 1 to {MAX_STEPS}, not {self.steps}")
        if self.bound is not None and not 0 <= self.bound <= MAX_BOUND:
            raise ConfigError(f"--bound must be 0 to {MAX_BOUND}, not {self.bound:g}")
        if self.latents == "best" and "mse" not in self.metrics:
            raise ConfigError("--latents best is chosen by mse; add mse to --metrics")
        if self.clips is not None and self.faces == "all":
            raise ConfigError("--video follows one face through a clip; leave out --faces all")
        self._require_stepwise()
        self._require_refinement()

    def _require_stepwise(self) -> None:
        if self.init not in ("average", "random"):
            raise ConfigError(f"--init is average or random, not {self.init}")
        for is_asked, option in (
            (self.auto, "--steps auto"),
            (self.init == "random", "--init random"),
        ):
            if is_asked and self.then is not None:
                raise ConfigError(f"{option} is for one model; leave out --then, or {option}")
        if self.auto and self.latents == "all":
            raise ConfigError(
                "--latents all needs the same number of steps for every row; pass --steps N, or "
                "--latents best"
            )

    def _require_refinement(self) -> None:
        if not 0 <= self.refine <= MAX_REFINE:
            raise ConfigError(f"--refine must be 0 to {MAX_REFINE:,}, not {self.refine}")
        for name in REFINE_WEIGHTS:
            weight, option = getattr(self, name), "--" + name.replace("_", "-")
            if not 0 <= weight < math.inf:
                raise ConfigError(f"{option} must be a number of at least 0, not {weight}")
            if weight and not self.refine:
                raise ConfigError(f"{option} is for refinement; add --refine fast")
        if self.refine_lpips and "lpips" not in self.metrics:
            raise ConfigError("--refine-lpips needs lpips and its files; add lpips to --metrics")
        if self.refine_identity and self.identity_model is None:
            raise ConfigError(
                "--refine-identity needs a network that can be differentiated; pass --identity-model"
            )

    @property
    def n_entries(self) -> int:
        """Of a row's lists: one per step, and one of a refined answer."""
        return n_entries({"steps": self.steps, "refine": self.refine})

    def settings(self) -> dict[str, Any]:
        """The settings that the fingerprint covers: paths are left out, the weights' hashes count."""
        left_out = (
            *PATHS,
            "keep_fields",
            "labels",
            "bound",
            "auto",
            "max_steps",
            "init",
            "clips",
            *OF_LABELS,
        )
        if not self.refine:
            left_out += ("refine", *REFINE_WEIGHTS)
        chosen = {name: value for name, value in asdict(self).items() if name not in left_out}
        # Named only where there are any, so that runs from before they existed go on.
        kept: dict[str, Any] = {}
        if self.keep_fields:
            kept = {"keep_fields": list(self.keep_fields), **self.labels}
        if self.label_file is not None:  # its chosen columns are among the labels
            file = {"labels_sha256": self.label_sha256, "labels_on": self.label_on}
            kept |= {**file, **self.labels}
        kept |= {} if self.bound is None else {"bound": float(self.bound)}
        kept |= {"auto": AUTO_GAIN} if self.auto else {}
        kept |= {} if self.init == "average" else {"init": self.init}
        kept |= {} if self.class_label is None else {"class_label": self.class_label}
        kept |= {} if self.clips is None else self.clips.settings(self.align)
        return {**chosen, "metrics": list(self.metrics), "protocol": PROTOCOL, **kept}


def n_entries(settings: Mapping[str, Any]) -> int:
    """Of the lists of a row that was kept to the last step, by the settings of its run."""
    return settings["steps"] + (1 if settings.get("refine") else 0)


def _fields(words: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The fields to keep, and the columns whose type is declared."""
    names: set[str] = set()
    declared: dict[str, str] = {}
    for word in words:
        key, is_declared, type_ = word.partition("=")
        if is_declared and (key in LABEL_MEMBERS or not COLUMN_KEY.fullmatch(key)):
            raise ConfigError(f"--keep-fields cannot make a column from the key {key!r}")
        if (type_ not in LABEL_TYPES) if is_declared else (key not in LABEL_MEMBERS):
            raise ConfigError(
                f"--keep-fields takes {', '.join(LABEL_MEMBERS)}, and types for keys of the json, such as "
                f"age=float ({', '.join(LABEL_TYPES)}), not {word!r}"
            )
        names.add("json" if is_declared else key)
        declared |= {LABEL_PREFIX + key: LABEL_TYPES[type_]} if is_declared else {}
    return tuple(name for name in LABEL_MEMBERS if name in names), declared


@dataclass(frozen=True)
class ClusterConfig:
    """How the work is spread; none of it changes what is written."""

    address: str | None = setting(
        None, "Ray cluster: auto or HOST:PORT. Default: start Ray here.", CLUSTER
    )
    executor: Executor = setting(
        "auto",
        "local: in this process, on one GPU or none, without Ray. auto: local for up to some hundred photos "
        "and no cluster, else ray.",
        CLUSTER,
    )
    n_actors: int | None = setting(
        None,
        "Default: one per GPU, or one per node if there are no GPUs.",
        CLUSTER,
        flag="actors",
        least=1,
    )
    gpus_per_actor: float | None = setting(
        None, "Default: 1 if there are any, else 0.", CLUSTER, least=0
    )
    batch_size: int | None = setting(
        None,
        "Faces inverted together. Default: auto, what fits on the GPU, at most 32; 8 on a CPU.",
        CLUSTER,
        least=1,
    )
    compile: Compile = setting(
        "auto",
        "Compile the model. auto: on a GPU, where a run is long enough to win back the minute it takes.",
        CLUSTER,
    )
    least_speed: float = setting(
        1024.0,
        "Bytes a second that a server, store or command must send, on the average of a minute; 0: any.",
        INPUT,
        least=0,
    )
    shard_timeout: float | None = setting(
        None, "Seconds from a remote shard's first byte to its last. Default: any.", INPUT, least=1
    )
    n_attempts: int = 3  # tries before a shard is given up

    def __post_init__(self) -> None:
        if self.executor == "local" and self.address:
            raise ConfigError(
                "--executor local uses no cluster; leave out --address, or --executor local"
            )
        if self.executor == "local" and (self.n_actors or 1) > 1:
            raise ConfigError(
                "--executor local is one worker; leave out --actors, or pass --executor ray"
            )
        each = self.gpus_per_actor
        if each is not None and each > 1 and each != int(each):
            raise ConfigError(f"--gpus-per-actor must be a whole number above 1, not {each:g}")


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
