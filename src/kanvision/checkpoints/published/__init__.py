"""Weights of published code, loaded into kanvision networks."""
