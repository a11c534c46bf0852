"""Measure the paper's claims in miniature, and write the page docs/quality.md."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from benchmarks.quality import experiment, page
from benchmarks.quality.settings import Settings, parse
from generators.files.checkpoint import CheckpointError


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 2 where models or numbers do not fit."""
    argv = sys.argv[1:] if argv is None else argv
    began = time.monotonic()
    try:
        settings = parse(Settings, "python -m benchmarks.quality", __doc__, argv)
        record, pictures = experiment.run(settings, argv)
    except (CheckpointError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    record.save(settings.results)
    written = page.write(record, pictures, settings.out)
    for target in record.targets:
        print(f"{target.verdict:24} {target.name}: {target.found} ({target.wanted})")
    print(f"{written} and {settings.results}, after {(time.monotonic() - began) / 60:.1f} minutes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
