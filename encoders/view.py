"""Which part of a generator's square image is the picture."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from generators.claims import require_int, shown

MAX_PIXELS = 1 << 14
Span = tuple[int, int]  # first pixel, and one past the last


@dataclass(frozen=True)
class View:
    """The part of a square generated image that is shown, to the encoder and to the user.

    StyleGAN2 draws squares; a generator of another format was trained on padded pictures, and what
    it draws in the padding means nothing.
    """

    rows: Span | None = None  # None = all
    columns: Span | None = None  # None = all

    def __post_init__(self) -> None:
        for name in ("rows", "columns"):
            span = getattr(self, name)
            if span is not None:
                if not isinstance(span, list | tuple) or len(span) != 2:
                    raise ValueError(
                        f"the {name} of a view must be a first and a last, not {shown(span)}"
                    )
                for pixel in span:
                    require_int(f"the {name} of a view", pixel, 0, MAX_PIXELS)
                start, stop = span
                if not 0 <= start < stop:
                    raise ValueError(f"the {name} {start}:{stop} of a view are none")
                object.__setattr__(self, name, (int(start), int(stop)))

    def size(self, resolution: int) -> tuple[int, int]:
        """Height and width of the picture in an image of `resolution` pixels.

        Raises:
            ValueError: it reaches beyond the image.
        """
        spans = [span or (0, resolution) for span in (self.rows, self.columns)]
        if any(stop > resolution for _, stop in spans):
            raise ValueError(f"{self} reaches beyond an image of {resolution} px")
        return spans[0][1] - spans[0][0], spans[1][1] - spans[1][0]

    def of(self, images: Tensor) -> Tensor:
        """[N, 3, resolution, resolution] -> [N, 3, height, width]; a view of the tensor, no copy."""
        return images[:, :, slice(*(self.rows or (None,))), slice(*(self.columns or (None,)))]


EVERYTHING = View()
# Stanford and LSUN cars: 512x384 pictures, padded above and below to a square (ReStyle, e4e).
CARS = View(rows=(64, 448))
