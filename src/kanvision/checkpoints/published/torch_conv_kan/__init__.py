"""Weights of torch-conv-kan, loaded into kanvision networks."""
