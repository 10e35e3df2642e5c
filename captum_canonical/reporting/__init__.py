"""Pages about results: one HTML file each, for people who look rather than compute.

The package is not called ``report``, because the function is.
"""

from __future__ import annotations

from captum_canonical.reporting.report import report

__all__ = ["report"]
