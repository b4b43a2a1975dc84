"""The names of kanvision's networks mean kanvision's networks, whatever else is installed."""

import sys
import types
import warnings

import timm
import torch
from timm.models import register_model

import kanvision as kv

NAME = "kat_tiny_patch16_224"


def test_another_package_with_the_same_names_breaks_nothing(monkeypatch) -> None:
    """The published code of KAT registers its networks under our names when it is imported."""
    stranger = types.ModuleType("katransformer")
    stranger.default_cfgs = {}

    def build(pretrained: bool = False, **kwargs: object) -> torch.nn.Module:
        raise RuntimeError("needs CUDA")

    build.__name__, build.__module__ = NAME, "katransformer"
    monkeypatch.setitem(sys.modules, "katransformer", stranger)
    ours = timm.model_entrypoint(NAME)
    before = kv.list_models()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            register_model(build)
        assert timm.model_entrypoint(NAME) is build
        model = kv.create_model(NAME, img_size=32, depth=1, embed_dim=48, num_classes=2)
        assert type(model).__module__ == "kanvision.models.kat"
        assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 2)
        assert kv.list_models() == before
        assert timm.model_entrypoint(NAME) is build, "the other package keeps its name in timm"
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            register_model(ours)
    assert timm.create_model(NAME, img_size=32, depth=1, embed_dim=48).num_classes == 1000
