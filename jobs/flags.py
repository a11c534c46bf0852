"""Flags from the fields of config dataclasses: type, default and help stand once, beside the field."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields, replace
from importlib import import_module
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import click

from jobs import paths
from jobs.printing import manner
from jobs.values import AnyFinite, AnyWhole, AutoInt, Finite, List, NamedInt, Whole

Config = TypeVar("Config")
PRESET = "--preset"
LOG_LEVELS = ("error", "warning", "info", "debug")
OTHER = "Options"  # the last heading
# Fields that name files, which a shell completes.
FILES = frozenset(
    {
        *("model", "then", "generator", "lpips_weights", "lpips_heads", "identity_model"),
        *("start_from", "discriminator_from", "backbone_weights", "vgg_weights", "moco_weights"),
        *("photos", "clip", "pivots", "direction", "directions", "held_out", "source"),
    }
)


class Flag(click.Option):
    """An option under a heading of ``--help``."""

    def __init__(
        self, *args: Any, group: str = OTHER, bare: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.group = group
        self.bare = bare  # the word that it means without one behind it; None: it needs one


def flag(*names: str, group: str = OTHER, **attributes: Any) -> Callable[[Any], Any]:
    """An option that no config has, under a heading."""
    return click.option(*names, cls=Flag, group=group, **attributes)


def out(text: str) -> Callable[[Any], Any]:
    """``--out``, with its help."""
    return flag("--out", required=True, help=text, group="Output", type=paths.FILE)


overwrite = flag(
    "--overwrite", is_flag=True, help="Delete what another run left in --out.", group="Output"
)
dry_run = flag("--dry-run", is_flag=True, help="Say what would be done, and stop.", group="Output")


def _talk(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Note how the command is to talk; click calls this, for the eager options first."""
    if param.name == "quiet":
        manner.quiet = value
    elif param.name == "as_json":
        manner.as_json = value
    else:
        least = value or ("error" if manner.quiet else "warning")
        manner.log_level = logging.getLevelNamesMapping()[least.upper()]


def talk(command: Callable[..., None]) -> Callable[..., None]:
    """The options of commands that run long: how much they say, and in what form."""
    shared: dict[str, Any] = {"group": "Messages", "expose_value": False, "callback": _talk}
    for option in (
        flag(
            "--log-level",
            type=click.Choice(LOG_LEVELS),
            envvar="RESTYLE_LOG",
            help="What stderr tells: info adds workers, retries and deaths, debug every shard. Also as "
            "RESTYLE_LOG.  [default: warning]",
            **shared,
        ),
        flag(
            "--json",
            "as_json",
            is_flag=True,
            is_eager=True,
            help="Events as JSON on stdout, one object per line, in the place of bar and summary.",
            **shared,
        ),
        flag(
            "--quiet",
            "-q",
            is_flag=True,
            is_eager=True,
            help="Errors and the last line alone.",
            **shared,
        ),
    ):
        command = option(command)
    return command


class ConfigCommand(click.Command):
    """A command with a flag for each field of some dataclasses, which are imported when it is used.

    Flags that are not passed are None, so that :func:`build` can tell them from the others.
    """

    configs: tuple[str, ...] = ()  # "module:name" of dataclasses, or of dicts with presets of one
    without: tuple[str, ...] = ()  # fields that are no flags here
    renamed: str | None = None  # "module:name" of a dict, for fields that had another name

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The command's own parameters, then one flag per field."""
        key = f"{__name__}.{self.name}"
        if key not in ctx.meta:
            ctx.meta[key] = self._flags(ctx)
        *own, help_option = super().get_params(ctx)
        return [*own, *ctx.meta[key], help_option]

    def _flags(self, ctx: click.Context) -> list[click.Parameter]:
        default = str(next((p.default for p in self.params if PRESET in p.opts), ""))
        preset = str(ctx.meta.get(PRESET, default))
        options: dict[str, click.Parameter] = {}  # of two fields of one name, the first is the flag
        for address in self.configs:
            for option in _options(_default(_load(address), preset, default)):
                if option.name not in self.without:
                    options.setdefault(str(option.name), option)
        return list(options.values())

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Note the preset, and translate earlier names of flags."""
        # `--help` shows the values of the preset that stands anywhere beside it.
        for i, word in enumerate(args):
            if word == PRESET and i + 1 < len(args):
                ctx.meta[PRESET] = args[i + 1]
            elif word.startswith(f"{PRESET}="):
                ctx.meta[PRESET] = word.partition("=")[2]
        words = [self._today(word) for word in args]
        return super().parse_args(ctx, self._completed(ctx, words))

    def _completed(self, ctx: click.Context, words: list[str]) -> list[str]:
        """With the word that a flag means where it stands alone: click would take whatever comes next."""
        bare = {
            name: option
            for option in self.get_params(ctx)
            if isinstance(option, Flag) and option.bare is not None
            for name in option.opts
        }
        completed = list(words)
        for i, word in enumerate(words):
            if (option := bare.get(word)) is None:
                continue
            after = words[i + 1] if i + 1 < len(words) else ""
            if not isinstance(option.type, click.Choice) or after not in option.type.choices:
                completed[i] = f"{word}={option.bare}"
        return completed

    def _today(self, word: str) -> str:
        """A flag by its name of today: scripts have the earlier ones."""
        name, equals, value = word.partition("=")
        if self.renamed is None or not name.startswith("--"):
            return word
        renamed = _load(self.renamed).get(name[2:].replace("-", "_"))
        return word if renamed is None else f"--{renamed.replace('_', '-')}{equals}{value}"

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their headings."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                sections.setdefault(getattr(param, "group", OTHER), []).append(record)
        for heading, records in sorted(sections.items(), key=lambda item: item[0] == OTHER):
            with formatter.section(heading):
                formatter.write_dl(records)


def command(
    *configs: str, without: tuple[str, ...] = (), renamed: str | None = None, **attributes: Any
) -> Callable[[Any], click.Command]:
    """As ``click.command``, with the flags of config dataclasses.

    Args:
        configs: where they are, such as ``pipeline.config:RunConfig``; imported when the command is used.
        without: fields that are no flags of this command.
        renamed: the same of a dict from earlier names of fields to those of today.
    """
    own = {"configs": configs, "without": without, "renamed": renamed}
    made = type("ConfigCommand", (ConfigCommand,), own)
    return click.command(cls=made, **attributes)


def build(
    kind: type[Config], options: dict[str, Any], preset: Config | None = None, **more: Any
) -> Config:
    """A config from the flags that were passed.

    Args:
        kind: its dataclass.
        preset: what the flags change entries of; None: the defaults.
        more: fields that have no flag.

    Raises:
        ConfigError: they do not fit together.
    """
    from pipeline.errors import ConfigError

    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    passed = {n: value for n, value in options.items() if n in names and value is not None}
    try:
        if preset is None:
            return kind(**passed, **more)
        return replace(preset, **passed, **more)  # type: ignore[type-var]
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _load(address: str) -> Any:
    module, _, name = address.partition(":")
    return getattr(import_module(module), name)


def _default(config: Any, preset: str, default: str) -> Any:
    """The dataclass, or of presets the one that was named."""
    return config.get(preset, config[default]) if isinstance(config, dict) else config


def _options(config: Any) -> Iterator[Flag]:
    hints = get_type_hints(config if isinstance(config, type) else type(config))
    for field in fields(config):
        if field.metadata.get("help"):
            default = field.default
            if not isinstance(config, type):
                default = getattr(config, field.name)
            yield _option(field, hints[field.name], default, isinstance(config, type))


def _option(field: Field, hint: Any, default: Any, is_plain: bool) -> Flag:
    metadata = field.metadata
    name = metadata.get("flag") or field.name.replace("_", "-")
    declared: list[str] = [f"--{name}", field.name]
    attributes: dict[str, Any] = {"type": _type(hint, metadata)}
    if hint is bool:
        # What a preset switches on, a flag must be able to switch off.
        declared[0] = f"--{name}" if is_plain and not default else f"--{name}/--no-{name}"
        attributes = {"is_flag": True}
    if "words" in metadata:
        attributes["metavar"] = f"[{'|'.join(metadata['words'])}|N]"
    if field.name in FILES and attributes["type"] is click.STRING:
        attributes["type"] = paths.FILE
    if metadata.get("many"):
        attributes = {"multiple": True} | ({"type": paths.FILE} if field.name in FILES else {})
    shown = _shown(default)
    text = metadata["help"] + (f"  [default: {shown}]" if shown else "")
    group = metadata.get("group") or OTHER
    bare = metadata.get("bare")
    return Flag(declared, default=None, help=text, group=group, bare=bare, **attributes)


def _type(hint: Any, metadata: Any) -> click.ParamType:
    is_optional = get_origin(hint) in (Union, UnionType)
    if is_optional:
        [hint] = [part for part in get_args(hint) if part is not NoneType]
    if get_origin(hint) is Literal:
        return click.Choice(get_args(hint))
    if get_origin(hint) is tuple:
        return List(get_args(hint)[0])
    least, most = metadata.get("least"), metadata.get("most")
    if hint is int and "words" in metadata:
        return NamedInt(metadata["words"], least, most)
    if hint is int and is_optional:
        return AutoInt(least, most)
    if hint is int:
        return Whole(least, most) if least is not None else AnyWhole()
    if hint is float:
        return Finite(least, most) if least is not None else AnyFinite()
    return click.STRING


def _shown(value: Any) -> str:
    if value is MISSING or value is None or value == ():
        return ""
    if isinstance(value, bool):
        return "on" if value else ""
    if isinstance(value, tuple):
        return ",".join(f"{part:g}" if isinstance(part, float) else str(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
