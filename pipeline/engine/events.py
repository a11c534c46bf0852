"""What happens in a run, told as it happens to whoever listens: records of the logger ``restyle``.

A record's ``facts`` are a dictionary: ``event`` and what belongs to it, as in a line of the run's log.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

LOGGER = logging.getLogger("restyle")
LOGGER.addHandler(logging.NullHandler())  # who does not listen hears nothing
# Of every shard; all else happens seldom.
ROUTINE = ("started", "done")


def tell(facts: Mapping[str, Any]) -> None:
    """Pass on one event.

    Args:
        facts: plain values, ``event`` among them.
    """
    event = facts["event"]
    level = logging.DEBUG if event in ROUTINE else logging.INFO
    LOGGER.log(level, "%s", event, extra={"facts": facts})
