"""The page: one HTML file with its style, its scripts and its data inside.

Nothing is fetched: a Content-Security-Policy refuses every request, and allows the one style and
the one script that this module wrote, by their digests. What comes from names is data, set as text
by the script; none of it is ever part of the markup.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from experiments.report.document import ReportError

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = (
    "base.js",
    "plot.js",
    "front.js",
    "waterfall.js",
    "breakdown.js",
    "gantt.js",
    "tornado.js",
    "proof.js",
    "tables.js",
    "main.js",
)
"""In order: each may use what those before it define."""
PAGE_LIMIT_BYTES = 5_000_000


def render_page(document: Mapping[str, Any]) -> str:
    """Return the HTML of a report; equal documents give equal bytes.

    Parameters
    ----------
    document
        What :func:`experiments.report.report_document` returns.

    Raises
    ------
    ReportError
        The page would be larger than :data:`PAGE_LIMIT_BYTES`.
    """
    script = "".join(['"use strict";\n(() => {\n', *(_asset(name) for name in SCRIPTS), "})();\n"])
    style = _asset("report.css")
    title = f"{document['title']['model']} on {document['title']['device']}: policy search"
    page = Template(_asset("page.html")).substitute(
        policy=escape(_policy(script, style)),
        title=escape(title),
        style=style,
        script=script,
        data=embedded(document),
    )
    size = len(page.encode())
    if size > PAGE_LIMIT_BYTES:
        raise ReportError(
            f"front: the page would take {size} bytes; at most {PAGE_LIMIT_BYTES} are allowed: "
            f"the front has {len(document['plans'])} plans; search with fewer objectives"
        )
    return page


def embedded(document: Mapping[str, Any]) -> str:
    """Return JSON that cannot end the script element that holds it."""
    text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _policy(script: str, style: str) -> str:
    allowed = {"script-src": script, "style-src": style}
    digests = [
        f"{directive} 'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
        for directive, text in allowed.items()
    ]
    return "; ".join(
        ["default-src 'none'", *digests, "img-src data:", "base-uri 'none'", "form-action 'none'"]
    )
