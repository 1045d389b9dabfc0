"""Torch and jaxnet side by side: `python -m benchmarks`."""
