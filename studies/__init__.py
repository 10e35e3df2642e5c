"""What the examples, the studies and the benchmarks share, and the two studies: ``paper`` and ``planted``."""
