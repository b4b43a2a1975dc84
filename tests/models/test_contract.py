"""What every registered classifier must do; new models are tested by being registered.

The smallest of each family is tested by `make test`, the others with `-m slow`.
"""

import re

import pytest
import timm
import torch

import kanvision as kv
from tests.covering import cover, one_of_each

NARROW = {"width_scale": 0.125}
# beginning of the name -> the model at a size that a test can afford
SMALL = {
    "res_kan": {**NARROW, "depths": (1, 2, 1, 1)},
    "dense_kan": {**NARROW, "depths": (1, 2, 1)},
    "rd_kan": {**NARROW, "depths": 1},
}
TRANSFORMER = {"img_size": 32, "depth": 2, "embed_dim": 48, "num_heads": 3}


MODELS = kv.list_models(kind="classifier")
WORDS = ("micro", "tiny", "small", "medium", "base", "big", "wide", "large")
SIZE = re.compile(rf"_({'|'.join(WORDS)}|(?:patch|window)?\d+)(?=_|$)")


def family(name: str) -> str:
    """Return a name without its sizes: `kat_gelu` of `kat_tiny_gelu_patch16_224`."""
    return SIZE.sub("", name)


def size(name: str) -> int:
    """Return the place of the first size in a name: words before numbers."""
    found = SIZE.search(name)
    return 0 if found is None else WORDS.index(found[1]) if found[1] in WORDS else int(found[1])


BY_SIZE = sorted(MODELS, key=size)
FIRST = list({family(name): name for name in reversed(BY_SIZE)}.values())
EACH = one_of_each(BY_SIZE, family)
EACH_CONVOLUTIONAL = one_of_each([name for name in BY_SIZE if "patch" not in name], family)


def create(name: str, **kwargs):
    """The model at a size that a test can afford."""
    small = TRANSFORMER if "patch" in name else SMALL.get(name.rpartition("_")[0], NARROW)
    return kv.create_model(name, **{**small, **kwargs})


def test_the_registry_is_timms():
    assert sorted(MODELS) == MODELS
    assert {"convkan_4", "convkan_8", "kat_tiny_patch16_224"} <= set(MODELS)
    assert all(timm.is_model(name) for name in MODELS)
    assert sorted([*MODELS, *kv.list_models(kind="segmenter")]) == kv.list_models()
    with pytest.raises(ValueError, match="legal values: classifier, segmenter"):
        kv.list_models(kind="segmentor")


def test_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="kat_tiny_patch16_224"):
        kv.create_model("kat_tny_patch16_224")


@pytest.mark.parametrize(
    ("name", "in_chans"),
    [
        *cover(FIRST, [1, 3, 12]),
        *(pytest.param(name, 3, marks=pytest.mark.slow) for name in MODELS if name not in FIRST),
    ],
)
def test_shapes_and_gradients(name, in_chans):
    torch.manual_seed(0)
    model = create(name, in_chans=in_chans, num_classes=7)
    logits = model(torch.randn(2, in_chans, 32, 32))
    assert logits.shape == (2, 7)
    logits.square().mean().backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]


@pytest.mark.parametrize("name", EACH)
def test_classifier_can_be_replaced(name):
    model = create(name, num_classes=7)
    model.reset_classifier(3)
    x = torch.randn(2, 3, 32, 32)
    assert model.get_classifier().out_features == 3
    assert model(x).shape == (2, 3)
    model.reset_classifier(0)
    assert model(x).shape == (2, model.head_hidden_size)


@pytest.mark.parametrize("name", EACH_CONVOLUTIONAL)
def test_encoder_of_smp_by_its_name_alone(name):
    import segmentation_models_pytorch as smp

    with torch.device("meta"):  # at full size
        network = smp.Unet(f"tu-{name}", encoder_weights=None, in_channels=12, classes=2)
        assert network(torch.empty(2, 12, 64, 96)).shape == (2, 2, 64, 96)


@pytest.mark.parametrize("name", EACH_CONVOLUTIONAL)
def test_pooling_for_decoders_is_of_features_only(name):
    """It has no parameters, and the classifier does not see it."""
    with torch.device("meta"):
        whole, features = kv.create_model(name), kv.create_model(name, features_only=True)
    added = features.model.stages[len(whole.stages) :]
    assert features.feature_info.reduction()[-1] == 32
    assert not list(added.parameters())
    assert [info["reduction"] for info in whole.feature_info] == features.feature_info.reduction()[
        : len(whole.stages)
    ]


@pytest.mark.parametrize("name", EACH)
def test_features_only(name):
    model = create(name, features_only=True, in_chans=5)
    maps = model(torch.randn(2, 5, 32, 32))
    assert [m.shape[1] for m in maps] == model.feature_info.channels()
    assert [tuple(32 // side for side in m.shape[2:]) for m in maps] == [
        (reduction, reduction) for reduction in model.feature_info.reduction()
    ]


@pytest.mark.parametrize("name", EACH)
def test_what_timm_knows_of_it(name):
    with torch.device("meta"):
        model = kv.create_model(name)
    config = timm.data.resolve_model_data_config(model)
    assert model(torch.empty(1, *config["input_size"], device="meta")).shape == (1, 1000)
    assert model.in_chans == len(config["mean"]) == len(config["std"]) == 3
    classifier = model.get_submodule(model.pretrained_cfg["classifier"])
    assert isinstance(classifier, torch.nn.Linear | kv.layers.KANLinear)
    with torch.device("meta"), pytest.raises(RuntimeError, match="No pretrained weights exist"):
        create(name, pretrained=True)


@pytest.mark.parametrize("name", EACH)
def test_same_seed_same_weights_and_output_does_not_depend_on_batch_mates(name):
    models = []
    for _ in range(2):
        torch.manual_seed(3)
        models.append(create(name, num_classes=5).eval())
    first, second = models
    x = torch.randn(3, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(first(x), second(x), rtol=0, atol=0)
        torch.testing.assert_close(first(x)[:1], first(x[:1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", EACH)
def test_state_dict_round_trip_channels_last_and_bfloat16(name):
    torch.manual_seed(0)
    model = create(name, num_classes=5).eval()
    other = create(name, num_classes=5).eval()
    other.load_state_dict(model.state_dict())
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        expected = model(x)
        last = other.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
        torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-4)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.isfinite(model(x)).all()
