"""From a data set to what a network looks at: one call, on one process or many, that can be killed and made again."""

from __future__ import annotations

from captum_canonical.runs.explain import explain_dataset
from captum_canonical.runs.stopping import SplitHalf, StandardError, Verdict

__all__ = ["SplitHalf", "StandardError", "Verdict", "explain_dataset"]
