"""How a StyleGAN3's pictures are framed: turned as the face was in its photo, and seen beyond their edges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from encoders import ReStyle
from encoders.view import EVERYTHING
from generators import StyleGAN3Generator
from generators.motion import Margins
from pipeline.errors import ConfigError
from pipeline.faces import unaligned
from pipeline.latents.names import plain_key

COLUMNS = ("quad", "landmarks")  # of a row, that tell how its face lay


@dataclass(frozen=True)
class Framing:
    """What is asked for."""

    is_unaligned: bool = False
    margin: int = 0  # pixels on every side

    @property
    def margins(self) -> Margins | None:
        """None: the picture alone."""
        return Margins(*[self.margin] * 4) if self.margin else None

    def require_columns(self, columns: Sequence[str], is_pasted: bool) -> None:
        """Refuse rows and ways to draw them that cannot be framed so.

        Args:
            columns: of the rows.
            is_pasted: the pictures go back into their photos.

        Raises:
            ConfigError: it says what to do.
        """
        flag = "--unaligned" if self.is_unaligned else "--margin"
        if is_pasted and (self.is_unaligned or self.margin):
            raise ConfigError(
                f"--paste-back turns the picture into its photo by itself; leave out {flag}, or --paste-back"
            )
        if self.is_unaligned and not set(COLUMNS) <= set(columns):
            raise ConfigError(
                "--unaligned needs to know how the faces lay in their photos: invert with --align face, or "
                "leave it out"
            )

    def require_model(self, model: ReStyle) -> None:
        """Refuse a generator that cannot draw so.

        Raises:
            ConfigError: it says what to do.
        """
        if not (self.is_unaligned or self.margin):
            return
        flag = "--unaligned" if self.is_unaligned else "--margin"
        generator = model.generator
        if not isinstance(generator, StyleGAN3Generator):
            raise ConfigError(
                f"{flag} moves what a StyleGAN3 draws, and these latents are a StyleGAN2's; leave it out, or "
                "use --paste-back"
            )
        if model.view != EVERYTHING:
            raise ConfigError(f"{flag} is for models that show all of their picture; leave it out")
        if self.margin > generator.resolution:
            raise ConfigError(
                f"--margin is at most the picture's own {generator.resolution} pixels, not {self.margin}"
            )

    def transforms(self, rows: Sequence[Mapping[str, Any]]) -> np.ndarray | None:
        """Of each row, [N, 3, 3]; None: the pictures as they are.

        Raises:
            ConfigError: a row is damaged.
        """
        return np.stack([_transform(row) for row in rows]) if self.is_unaligned and rows else None


AS_DRAWN = Framing()  # aligned, and no more


def _transform(row: Mapping[str, Any]) -> np.ndarray:
    try:
        return unaligned.in_crop(row["landmarks"], row["quad"]).transform
    except (TypeError, ValueError, IndexError):
        name = plain_key(row["key"])
        raise ConfigError(f"{name} does not tell where its face was; verify the folder") from None
