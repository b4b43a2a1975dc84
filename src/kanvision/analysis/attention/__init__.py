"""Attention matrices of a network: capture and maps."""
