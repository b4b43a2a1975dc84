"""Analyses of networks: cost, attention, curvature, explanations, features."""

from .cost import Cost, cost

__all__ = ["Cost", "cost"]
