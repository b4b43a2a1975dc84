"""Measurements, run as `python -m benchmarks.<name>`."""
