"""Floor 5: the command line, comparisons, studies and benchmarks."""
