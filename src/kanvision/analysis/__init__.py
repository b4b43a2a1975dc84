"""What a network costs and what it has learned."""

from .cost import Cost, cost

__all__ = ["Cost", "cost"]
