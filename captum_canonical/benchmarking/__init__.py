"""Methods compared side by side: the same photographs, targets, fills and controls for all of them."""

from captum_canonical.benchmarking.measures import MEASURES, BenchmarkMeasure, FillScores
from captum_canonical.benchmarking.methods import CONTROLS
from captum_canonical.benchmarking.result import BenchmarkResult
from captum_canonical.benchmarking.run import benchmark
from captum_canonical.benchmarking.scores import NO_DIFFERENCE, BenchmarkRow, RowComparison

__all__ = [
    "CONTROLS",
    "MEASURES",
    "NO_DIFFERENCE",
    "BenchmarkMeasure",
    "BenchmarkResult",
    "BenchmarkRow",
    "FillScores",
    "RowComparison",
    "benchmark",
]
