"""Templates, styles and scripts -> one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup


def page(template: str, *, styles: Sequence[str], scripts: Sequence[str], **values: Any) -> str:
    """Render a template of this house with its style and script inside.

    Args:
        styles, scripts: names of files, in order.
        values: what the template shows; whatever is text is escaped.
    """
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_read),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = ("".join(map(_read, names)) for names in (styles, scripts))
    return environment.get_template(template).render(
        style=Markup(style),
        script=Markup(script),
        policy=Markup(
            "default-src 'none'; img-src data:; "
            f"style-src {_csp_hash(style)}; script-src {_csp_hash(script)}"
        ),
        **values,
    )


def _read(name: str) -> str:
    return (resources.files("pipeline.report") / "templates" / name).read_text("utf-8")


def _csp_hash(text: str) -> str:
    """Names the one inline script (or style) that a browser may run on this page."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
