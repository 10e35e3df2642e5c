"""``{program-help} explain`` shows what ``captum-canonical explain --help`` says."""

from __future__ import annotations

import os
from contextlib import redirect_stdout, suppress
from io import StringIO
from unittest.mock import patch

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from captum_canonical.cli.command import build_parser


class ProgramHelp(SphinxDirective):
    """The help of a command, as it is printed."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """A block of text."""
        wide = patch.dict(os.environ, {"COLUMNS": "96", "NO_COLOR": "1"})
        with wide, redirect_stdout(StringIO()) as said, suppress(SystemExit):
            build_parser().parse_args([*self.arguments, "--help"])
        return [nodes.literal_block(said.getvalue(), said.getvalue(), language="text")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the directive."""
    app.add_directive("program-help", ProgramHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
