"""Sphinx: all of docs/, with the API from the docstrings. Needs no network: sphinx-build -W docs docs/_build."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")
sys.path.insert(0, str(Path(__file__).resolve().parent / "_extensions"))
logging.getLogger("matplotlib").setLevel(logging.ERROR)

import captum_canonical  # noqa: E402  # after the path

project = "captum_canonical"
author = "the authors of captum_canonical"
copyright = "the authors of captum_canonical, Apache-2.0"  # Sphinx's name
version = release = captum_canonical.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "mathml",
    "house_style",
    "program_help",
]
exclude_patterns = ["_build", "_extensions", "results/README.md"]
nitpicky = True
nitpick_ignore_regex = [
    # Other packages: their own documentation is elsewhere, and a build must not need a network to find it.
    (r"py:.*", r"(torch|torchmetrics|captum|numpy|np|nn|matplotlib|pathlib|PIL|collections|os|typing|contextlib)\..*"),
    (r"py:.*", r"(Tensor|Metric|Figure|Module|ndarray|Path|PathLike|Any|Callable|Sequence|Mapping|Iterator|Hashable)"),
    # Names that stand for a union or a protocol, and constants: what they are is said in words beside them.
    (
        r"py:.*",
        r"(captum_canonical\.)?([\w.]+\.)?"
        r"(PathType|Explanation|Direction|Manifest|MapsInMemory|MapsInRun|By|Bins|Interval|Clusters|Pixels|Units|R|Result"
        r"|Image\.Image)",
    ),
    (r"py:data", r"[A-Z_0-9]+"),
    (r"py:attr", r"(FaceMesh\.)?(image_index|quality)"),  # arguments of the dataclass, described there
    (r"py:class", r"tuple\[int"),  # half of a type that autodoc parts
]

# ------------------------------------------------------------------------------------------------------- Markdown
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist", "attrs_block"]
myst_heading_anchors = 3
myst_dmath_double_inline = True
notebook = Path(__file__).parent / "notebooks" / "tour.ipynb"  # Sphinx reads what lies in its own folder only
notebook.parent.mkdir(exist_ok=True)
shutil.copyfile(Path(__file__).parents[1] / "examples" / "tour.ipynb", notebook)
nb_execution_mode = "off"  # examples/tour.ipynb carries its outputs; a test compares them with a fresh run
html_math_renderer = "mathml"  # no script, no network; browsers draw and read it themselves

# ------------------------------------------------------------------------------------------------------------ API
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_type_aliases: dict[str, str] = {}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = False
napoleon_use_rtype = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90

# ----------------------------------------------------------------------------------------------------------- HTML
html_theme = "furo"
html_title = "captum_canonical"
html_show_sphinx = False
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["page.css"]
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
