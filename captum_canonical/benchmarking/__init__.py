"""Methods compared side by side: the same photographs, targets, fills and controls for all of them."""

from captum_canonical.benchmarking.comparisons import NO_DIFFERENCE, Comparison
from captum_canonical.benchmarking.controls import CONTROLS
from captum_canonical.benchmarking.result import BenchmarkResult
from captum_canonical.benchmarking.run import benchmark
from captum_canonical.benchmarking.scoring import Row
from captum_canonical.benchmarking.settings import MEASURES

__all__ = ["CONTROLS", "MEASURES", "NO_DIFFERENCE", "BenchmarkResult", "Comparison", "Row", "benchmark"]
