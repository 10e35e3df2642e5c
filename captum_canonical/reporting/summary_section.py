"""The page in a few sentences."""

from __future__ import annotations

from collections.abc import Sequence

from captum_canonical.model_saliency import ModelSaliency
from captum_canonical.reporting.page import Section
from captum_canonical.reporting.words import counted, number


def summary_section(result: ModelSaliency, findings: Sequence[str]) -> Section:
    """How many photographs, whether they are enough, and what was found."""
    points = [_photographs(result)]
    if result.run is not None:
        points += [str(verdict["says"]) for verdict in result.run.stopping.get("verdicts", [])[-1:]]
    return Section("summary", "In short", points=[*points, *(each for each in findings if each)])


def _photographs(result: ModelSaliency) -> str:
    run = result.run
    if run is None:
        return f"{counted(result.n, 'photograph')} with a map."
    lost = len(run.left_out)
    told = f"{counted(result.n, 'photograph')} with a map; {number(lost)} left out or failed"
    return f"{told}." if run.complete else f"{told}, and {number(run.count - len(run))} not finished yet."
