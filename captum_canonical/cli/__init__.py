"""The command ``captum-canonical``: what the package computes, reached without writing code."""

from __future__ import annotations

from captum_canonical.cli.command import main

__all__ = ["main"]
