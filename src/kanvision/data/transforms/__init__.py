"""Transforms and augmentation."""
