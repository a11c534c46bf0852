"""What `--direction` says: files and components, their layers and factors, as one direction."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from generators import StyleBasedGenerator

SEFA = "sefa"
DEMO = "demo:"
GRAMMAR = (
    "[NAME=][FACTOR*]FILE[:COMPONENT][@LAYERS], with sefa:COMPONENT or demo:NAME for a file too; "
    "joined by ' + '"
)
_NAME = re.compile(r"^([\w-]+)=")
_TERM = re.compile(
    r"^(?:(?P<factor>[-+]?(?:\d+\.?\d*|\.\d+))\*)?(?P<source>demo:\w+|.+?)"
    r"(?::(?P<component>\d+))?(?:@(?P<layers>\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*))?$"
)
SPAN = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
MAX_DIGITS = 9  # of a component
MAX_SHOWN = 60  # characters that a message repeats
MAX_LAYER = 1000  # far above any generator's; a range is spelled out


@dataclass(frozen=True)
class Term:
    """A multiple of one direction."""

    factor: float
    source: str  # a file, or "sefa"
    component: int | None  # of a file with several
    layers: tuple[int, ...] | None  # None: all


@dataclass(frozen=True)
class Expression:
    """A direction as the command line names it: a sum of terms."""

    name: str  # for the column `direction`
    terms: tuple[Term, ...]

    def signature(self) -> str:
        """What decides the numbers: contents of files, not their names; for the fingerprint."""
        from generators.files.checkpoint import file_sha256

        parts = []
        for term in self.terms:
            is_file = term.source != SEFA
            source = file_sha256(term.source) if is_file else SEFA
            layers = "all" if term.layers is None else ",".join(map(str, term.layers))
            parts.append(f"{term.factor}*{source}:{term.component}@{layers}")
        return f"{self.name}=" + " + ".join(parts)


def parse(text: str) -> Expression:
    """``smile.pt + -0.5*pca.pt:3@0-7`` as an :class:`Expression`; layers are counted from 0, both ends in.

    Its name is what stands before the first ``=``, or else is made of the files' names.

    Raises:
        ConfigError: it follows another grammar.
    """
    named = _NAME.match(text.strip())
    body = text.strip()[named.end() :] if named else text.strip()
    terms = [_term(part.strip(), text) for part in body.split(" + ")]
    return Expression(named[1] if named else " + ".join(map(_short, terms)), tuple(terms))


def parse_all(texts: tuple[str, ...]) -> list[Expression]:
    """Several, whose names must differ.

    Raises:
        ConfigError: see :func:`parse`; two of one name.
    """
    expressions: dict[str, Expression] = {}
    for text in texts:
        one = parse(text)
        if one.name in expressions:
            raise ConfigError(
                f"two directions are named {one.name!r}; write --direction NAME={text}"
            )
        expressions[one.name] = one
    return list(expressions.values())


def _term(text: str, whole: str) -> Term:
    match = _TERM.match(text)
    if match is None:
        raise ConfigError(f"--direction takes {GRAMMAR}, not {whole!r}")
    component, factor = _component(match["component"]), float(match["factor"] or 1)
    if not math.isfinite(factor):
        raise ConfigError(
            f"a factor of --direction {whole[:MAX_SHOWN]} is too large; pass a smaller one"
        )
    if match["source"] == SEFA and component is None:
        raise ConfigError("sefa needs a component, such as sefa:0")
    layers = None if match["layers"] is None else parse_layers(match["layers"])
    return Term(factor, _source(match["source"]), component, layers)


def _component(digits: str | None) -> int | None:
    if digits is not None and len(digits) > MAX_DIGITS:
        raise ConfigError(f"there is no component {digits[:MAX_SHOWN]}; they are counted from 0")
    return None if digits is None else int(digits)


def _source(text: str) -> str:
    """A packaged direction by its name, or what is there."""
    if not text.startswith(DEMO):
        return text
    from generators.directions import demo_path

    return str(demo_path(text.removeprefix(DEMO)))


def parse_layers(text: str) -> tuple[int, ...]:
    """``0-3,7``, both ends in.

    Raises:
        ConfigError: no layers.
    """
    layers: set[int] = set()
    for part in text.split(","):
        match = SPAN.fullmatch(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last <= MAX_LAYER:
            raise ConfigError(f"{part!r} does not name layers; write them like 0-3,7")
        layers |= set(range(first, last + 1))
    return tuple(sorted(layers))


def _short(term: Term) -> str:
    factor = "" if term.factor == 1 else f"{term.factor:g}*"
    component = "" if term.component is None else f":{term.component}"
    layers = ""
    if term.layers is not None:
        is_span = len(term.layers) == term.layers[-1] - term.layers[0] + 1 > 1
        ends = (term.layers[0], term.layers[-1])
        layers = "@" + ("-" if is_span else ",").join(map(str, ends if is_span else term.layers))
    source = term.source if term.source == SEFA else PurePath(term.source).stem
    return f"{factor}{source}{component}{layers}"


def resolve(
    expression: Expression, n_styles: int, w_dim: int, generator: Callable[[], StyleBasedGenerator]
) -> Tensor:
    """The direction [n_styles, w_dim] float32 that an expression stands for.

    Args:
        generator: loads the one that the latents are of; called for SeFa alone.

    Raises:
        ConfigError, CheckpointError: a file or a layer that there is not, or of another latent space.
    """
    import torch

    total = torch.zeros(n_styles, w_dim)
    for term in expression.terms:
        try:
            total += term.factor * _vectors(term, n_styles, w_dim, generator)
        except ValueError as error:
            if type(error) is not ValueError:
                raise  # a ConfigError or a CheckpointError says enough
            raise ConfigError(f"--direction {expression.name}: {error}") from None
    return total


def _vectors(
    term: Term, n_styles: int, w_dim: int, generator: Callable[[], StyleBasedGenerator]
) -> Tensor:
    from generators import directions

    if term.source == SEFA:
        assert term.component is not None, "parsed so"
        layers = term.layers or tuple(range(n_styles))
        return directions.sefa(generator(), term.component, layers)
    vectors = directions.load(term.source, n_styles, w_dim, term.component)
    return vectors if term.layers is None else directions.at_layers(vectors, term.layers)
