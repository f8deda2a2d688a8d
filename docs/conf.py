"""How the documentation is built."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "testproject"), str(Path(__file__).parent / "_ext")]
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

import django  # noqa: E402

django.setup()

from django_tasks.version import __version__  # noqa: E402

project = "django-tasks-engine"
copyright = "2026, its authors"
release = version = __version__
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "from_code"]
myst_enable_extensions = ["colon_fence", "deflist", "fieldlist", "attrs_inline"]
myst_heading_anchors = 3
# "--wait" stays two hyphens.
smartquotes = False
source_suffix = {".md": "markdown"}
# The fragments are joined by changes/index.md.
exclude_patterns = ["_build", "changes/README.md", "changes/[!i]*.md"]

html_theme = "furo"
html_title = f"django-tasks-engine {release}"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"show-inheritance": True}
autodoc_preserve_defaults = True

# Types of Python, Django and other libraries: this documentation is built without a network, so there is nothing to link to.
nitpick_ignore_regex = [
    (r"py:.*", r"(?!django_tasks\.).*"),
    # Signatures name parts of the inside. What the pages themselves refer to is checked: models, exceptions, states.
    (r"py:.*", r"django_tasks\.(?!(models|exceptions|states)\.).*"),
]
