"""Statistics of many maps or scores. Pure functions: no state, and no use of the global random state."""

from captum_canonical.statistics.bootstrap import bootstrap_interval, interval_of_mean
from captum_canonical.statistics.permutation import holm, sign_flip_p_values
from captum_canonical.statistics.split_half import SplitHalfCorrelation, split_half_correlation
from captum_canonical.statistics.units import FEWEST_IDENTITIES, SAME, unit_totals
from captum_canonical.statistics.verification import HeldOutAccuracy, acceptance_at, held_out_accuracy

__all__ = [
    "FEWEST_IDENTITIES",
    "SAME",
    "HeldOutAccuracy",
    "SplitHalfCorrelation",
    "acceptance_at",
    "bootstrap_interval",
    "held_out_accuracy",
    "holm",
    "interval_of_mean",
    "sign_flip_p_values",
    "split_half_correlation",
    "unit_totals",
]
