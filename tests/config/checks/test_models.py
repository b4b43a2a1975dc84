"""Segmentation networks: what they choose beside themselves, and what does not go together."""

from pathlib import Path

import pytest
import torch

import kanvision.layers
import kanvision.models
from kanvision.config import ConfigError, ConfigGroups, compose, notes, parse_train

CONF = Path(__file__).resolve().parents[3] / "conf"
CHOICES = ConfigGroups([CONF])
RIVALS = ("unet", "attention_unet", "nested_unet", "unext", "rolling_unet", "u_mamba")
OURS = ("ukan", *RIVALS, "kan_unet", "res_kan_unet", "u2_kan")

# refused line -> words of the complaint, a legal line next to it
CASES = {
    "model=ukan model.plain=[false,true]": (
        "2 values for 3 layers",
        "model=ukan model.plain=[false,true,false]",
    ),
    "model=ukan model.num_layers=2 model.plain=[false]": (
        "1 value for 2 layers",
        "model=ukan model.num_layers=1 model.plain=[false]",
    ),
    "model=ukan model.plain=true model.preset=kagn basis=gram": (
        "no published KAN layer",
        "model=ukan model.preset=kagn basis=gram",
    ),
    "model=kat model.plain=true model.init=variance_preserving": (
        "a rule for rationals",
        "model=kat model.plain=true model.num_groups=7",
    ),
    "model=unet model.drop_path_rate=0.1": ("no residual branches", "model=ukan model.drop_path_rate=0.1"),
    **{
        f"model={family} model.drop_path_rate=0.1": ("no residual branches", f"model={other} {rate}")
        for family, other, rate in (
            ("attention_unet", "unext", "model.drop_path_rate=0.1"),
            ("nested_unet", "u_mamba", "model.drop_path_rate=0.1"),
            ("rolling_unet", "rolling_unet", "model.drop_rate=0.1"),
        )
    },
    "model=kan_unet model.drop_path_rate=0.1": (
        "no residual branches",
        "model=res_kan_unet model.drop_path_rate=0.1",
    ),
    "model=u2_kan model.plain=true model.form=bottleneck": (
        "has no other form",
        "model=u2_kan model.plain=true",
    ),
    "model=kan_unet model.form=moe model.top_k=9": (
        "more experts are active",
        "model=kan_unet model.form=moe",
    ),
}


def parsed(line: str):
    return parse_train(compose("train", line.split(), CONF), CHOICES)


@pytest.mark.parametrize("line", CASES)
def test_what_does_not_go_together_is_refused(line):
    words, neighbor = CASES[line]
    with pytest.raises(ConfigError, match=words):
        parsed(line)
    parsed(neighbor)


@pytest.mark.parametrize("family", [*OURS, "smp"])
def test_a_segmenter_comes_with_generated_fields(family):
    assert parsed(f"model={family}").data.name == "synthetic_fields"
    assert parsed(f"model={family} data=busi").data.name == "busi"


def test_a_model_may_come_with_a_basis():
    assert parsed("model=ukan").basis.name == "bspline"
    assert parsed("model=ukan basis=rbf").basis.name == "rbf"
    assert parsed("basis=rbf model=ukan").basis.name == "rbf"
    assert parsed("model=kan_unet").basis.name == "gram"
    assert CHOICES.overridden("model", "ukan") == {"basis": "bspline"}


@pytest.mark.parametrize("family", OURS)
def test_names_of_all_sizes_are_registered(family):
    field = type(parsed(f"model={family}").model).model_fields["size"]
    for size in field.annotation.__args__:
        config = parsed(f"model={family} model.size={size}")
        assert config.model.kind == "segmenter"
        assert config.model.name in kanvision.models.list_models(kind="segmenter")


def test_settings_without_effect_are_named():
    line = "model=ukan model.plain=true basis=rbf"
    assert any("has no basis" in note for note in notes(parsed(line), line.split()))
    for family in RIVALS:
        line = f"model={family} optimizer.kan_lr=0.1"
        assert any("no KAN parameters" in note for note in notes(parsed(line), line.split()))
    line = "model=ukan model.plain=[false,true,false] basis=rbf"
    assert not any("has no basis" in note for note in notes(parsed(line), line.split()))


@pytest.mark.parametrize(
    ("encoder", "keys"),
    [
        ("tu-vgg_kan_11", {"width_scale": 0.0625, "basis": "gram"}),
        ("tu-res_kan_18", {"width_scale": 0.25, "basis": "rbf"}),
        ("tu-dense_kan_tiny", {"width_scale": 0.0625}),
        ("tu-kkan_small", {}),
    ],
)
def test_our_classifiers_are_encoders_by_name(encoder, keys):
    more = " ".join(f"+model.kwargs.{key}={value}" for key, value in keys.items())
    config = parsed(f"model=smp model.encoder_name={encoder} {more}".strip())
    model = kanvision.models.BUILDERS[config.model.kind](config.model.name, **config.model.arguments())
    with torch.inference_mode():
        assert model.eval()(torch.randn(1, 4, 33, 47)).shape == (1, 4, 33, 47)
    assert any(isinstance(module, kanvision.layers.KANConv2d) for module in model.modules())
