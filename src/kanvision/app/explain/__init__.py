"""Command `eval.py mode=explain`."""
