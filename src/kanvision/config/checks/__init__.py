"""Checks of a configuration across keys."""
