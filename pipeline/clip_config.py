"""How the frames of a clip are followed and smoothed: part of what a run computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.errors import ConfigError
from pipeline.settings import CLIPS, setting

MAX_WINDOW = 99  # frames: about four seconds
MAX_GAP = 100  # frames, which are held until the face is seen again


@dataclass(frozen=True)
class ClipConfig:
    """Of `restyle invert --video`."""

    landmark_window: int = setting(
        5,
        "Frames that landmarks are averaged over, an odd number; 1: as they are found.",
        CLIPS,
        least=1,
        most=MAX_WINDOW,
    )
    latent_window: int = setting(
        5,
        "Frames that latents are averaged over, an odd number; 1: as they are inverted.",
        CLIPS,
        least=1,
        most=MAX_WINDOW,
    )
    gap: int = setting(
        5,
        "Frames that a face may be lost for: its place is interpolated. After more they are no_face.",
        CLIPS,
        flag="video-gap",
        least=0,
        most=MAX_GAP,
    )

    def __post_init__(self) -> None:
        for name in ("landmark_window", "latent_window"):
            window, option = getattr(self, name), "--" + name.replace("_", "-")
            if not 1 <= window <= MAX_WINDOW or not window % 2:
                raise ConfigError(
                    f"{option} must be an odd number from 1 to {MAX_WINDOW}, with as many frames before as "
                    f"behind, not {window}"
                )
        if not 0 <= self.gap <= MAX_GAP:
            raise ConfigError(f"--video-gap must be 0 to {MAX_GAP}, not {self.gap}")

    def settings(self, align: str) -> dict[str, Any]:
        """What the fingerprint covers: without alignment there is no face to be followed."""
        of_faces = {"landmark_window": self.landmark_window, "video_gap": self.gap}
        return {"latent_window": self.latent_window, **(of_faces if align == "face" else {})}
