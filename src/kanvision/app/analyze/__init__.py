"""Command `eval.py mode=analyze`."""
