"""The benchmarks: what they measure with, and what they make of it."""
