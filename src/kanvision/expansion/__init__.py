"""Expansion of inputs by univariate functions: a definition, its trace, and the loops that execute it."""
