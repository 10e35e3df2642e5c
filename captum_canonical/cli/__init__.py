"""The command-line program ``captum-canonical``."""

from __future__ import annotations

from captum_canonical.cli.command import main

__all__ = ["main"]
