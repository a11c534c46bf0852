"""What makes a field of a config a flag of a command, and the headings that flags stand under."""

from __future__ import annotations

from dataclasses import MISSING, field
from typing import Any

# Headings that `--help` groups flags under.
INPUT, MODEL, ALIGNMENT, METRIC = "Input", "Model", "Alignment", "Metrics"
EDIT, PATH, OUTPUT, CLUSTER = "Edits", "Path", "Output", "Cluster"
CLIPS = "Clips"


def setting(
    default: Any = MISSING, text: str = "", group: str = "", *, flag: str = "", **limits: Any
) -> Any:
    """A field that is a flag of a command, so that default and help stand in one place.

    Args:
        text: its help.
        group: the heading above it.
        flag: its name where that is not the field's.
        limits: `least` and `most`, the numbers allowed; `words`, names of some of them; `many`, whether the
            flag may be given again; `bare`, what it means without a word behind it.
    """
    return field(default=default, metadata={"help": text, "group": group, "flag": flag, **limits})
