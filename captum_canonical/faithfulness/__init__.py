"""How faithful a map is to its network: explanation images, their scores, deletion and insertion curves."""

from captum_canonical.faithfulness.curves import removal_curves
from captum_canonical.faithfulness.explanations import explanation_images, score_explanations
from captum_canonical.faithfulness.fills import BlurFill, ConstantFill, Fill, MeanFill
from captum_canonical.faithfulness.imputation import ImputedFill
from captum_canonical.faithfulness.masks import ExplanationMasks, equal_mass_masks, explanation_masks
from captum_canonical.faithfulness.measures import (
    FaithfulnessScore,
    RemovalCurves,
    average_drop,
    increase_rate,
    mean_drop,
)
from captum_canonical.faithfulness.metrics import AverageDrop, IncreaseRate, MeanCurves, MeanDrop, WinRate
from captum_canonical.faithfulness.wins import Wins, win_rates, win_shares

__all__ = [
    "AverageDrop",
    "BlurFill",
    "ConstantFill",
    "ExplanationMasks",
    "FaithfulnessScore",
    "Fill",
    "ImputedFill",
    "IncreaseRate",
    "MeanCurves",
    "MeanDrop",
    "MeanFill",
    "RemovalCurves",
    "WinRate",
    "Wins",
    "average_drop",
    "equal_mass_masks",
    "explanation_images",
    "explanation_masks",
    "increase_rate",
    "mean_drop",
    "removal_curves",
    "score_explanations",
    "win_rates",
    "win_shares",
]
