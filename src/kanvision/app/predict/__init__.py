"""Command `eval.py mode=predict`."""
