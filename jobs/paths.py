"""Arguments that name files: shells complete them; any text is taken, for it may be an address or a glob."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem


class PathText(click.ParamType):
    """A text that most often is a path."""

    name = "path"

    def __init__(self, folder: bool = False) -> None:
        self._kind = "dir" if folder else "file"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Tell the shell to complete it as it completes its own; click calls this."""
        return [CompletionItem(incomplete, type=self._kind)]


FILE = PathText()
FOLDER = PathText(folder=True)
