"""Docstrings as they are written here, where Sphinx and napoleon expect something else.

- Things are named as users import them: ``:class:`FaceMesh``` is found wherever it is documented, if only one thing is
  called so.
- The docstring of a property is a sentence, and so is what a function returns. Napoleon would take what stands before a
  colon in it for a type.
- The fields of a named tuple are described under "Attributes", not one by one.
- ``a, b: what both are`` describes two arguments or attributes.
"""

from __future__ import annotations

from collections.abc import Callable

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.ext.napoleon.docstring import GoogleDocstring
from sphinx.util.nodes import make_refnode

Fields = list[tuple[str, str, list[str]]]
"""Name, type and description of each argument of a section."""


def _resolve(
    app: Sphinx, environment: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.reference | None:
    if node.get("refdomain") != "py":
        return None
    objects = environment.domains.python_domain.objects
    wanted = node["reftarget"].removeprefix("~")
    last = wanted.rsplit(".", 1)[-1]
    for name in (wanted, last) if wanted.startswith("captum_canonical.") else (wanted,):
        found = [known for known in objects if known.endswith("." + name) and not objects[known].aliased]
        if len(found) == 1:
            entry = objects[found[0]]
            return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, content, found[0])
    return None


def _whole_sentence(docstring: GoogleDocstring) -> tuple[str, list[str]]:
    return "", list(docstring._dedent(docstring._consume_to_end()))


def _one_by_one(consume: Callable[..., Fields]) -> Callable[..., Fields]:
    def consume_fields(docstring: GoogleDocstring, *args: bool, **kwargs: bool) -> Fields:
        fields = consume(docstring, *args, **{**kwargs, "multiple": False})
        return [
            (docstring._escape_args_and_kwargs(name.lstrip("\\")), kind, description)
            for names, kind, description in fields
            for name in names.split(", ")
        ]

    return consume_fields


def _returned(docstring: GoogleDocstring, preprocess_types: bool = False) -> Fields:
    lines = docstring._dedent(docstring._consume_to_next_section())
    return [("", "", lines)] if lines else []


def _skip_fields(app: Sphinx, what: str, name: str, member: object, skip: bool, options: object) -> bool | None:
    return True if type(member).__name__ == "_tuplegetter" else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Connects the search for short names, and corrects napoleon."""
    GoogleDocstring._consume_inline_attribute = _whole_sentence  # type: ignore[method-assign]
    GoogleDocstring._consume_fields = _one_by_one(GoogleDocstring._consume_fields)  # type: ignore[method-assign]
    GoogleDocstring._consume_returns_section = _returned  # type: ignore[method-assign]
    app.connect("autodoc-skip-member", _skip_fields)
    app.connect("missing-reference", _resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
