"""Datasets, samplers, loaders and bad-sample handling."""
