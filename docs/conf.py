"""Sphinx configuration: the pages are plain Markdown, readable as they are on a code host."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import reliable_tasks  # noqa: E402

project = "django-reliable-tasks"
author = "The reliable_tasks contributors"
copyright = author  # noqa: A001
version = release = reliable_tasks.__version__

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "index"
exclude_patterns = ["_build"]
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
# A state diagram is drawn by code hosts; here its text is shown.
suppress_warnings = ["misc.highlighting_failure"]
LINK_UPWARDS = re.compile(r"\[(?P<text>[^\]]+)\]\((?P<file>\.\./[^)#]+)[^)]*\)")
html_theme = "furo"
html_title = f"{project} {version}"


def adapt(app, page, source) -> None:
    """Fit a page that is written for a code host: no links out of this folder, and a sidebar."""
    here = (Path(app.srcdir) / page).parent
    source[0] = LINK_UPWARDS.sub(
        # A dead link stays, so that the build fails on it.
        lambda link: link["text"] if (here / link["file"]).exists() else link[0],
        source[0],
    )
    if page == root_doc:
        source[0] += (
            f"\n\n```{{toctree}}\n:hidden:\n\n{contents(app.env.found_docs, source[0])}\n```\n"
        )


def contents(pages, index) -> str:
    """Return every page's name, one a line, in the order of the index's links to them."""
    places = {name: index.find(f"({name}.md") for name in pages if name != root_doc}
    return "\n".join(sorted(places, key=lambda name: (places[name] < 0, places[name], name)))


def setup(app) -> None:
    """Register the hook."""
    app.connect("source-read", adapt)
