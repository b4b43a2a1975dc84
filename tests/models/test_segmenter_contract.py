"""What every registered segmentation network must do; new ones are tested by being registered."""

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

import kanvision as kv
from kanvision.models import BUILDERS, Segmenter, create_segmenter
from tests.covering import one_of_each

NARROW = {"width_scale": 0.125}
# beginning of the name -> arguments that make it as small as a test can afford
SMALL = {
    "ukan": {"embed_dims": (8, 12, 16), "stem_dims": (2, 4)},
    "res_kan_unet": {**NARROW, "depths": (2, 1, 1, 1)},
    "u2_kan": {"width_scale": 0.25},
    "attention_unet": {"widths": (8, 8, 12, 16)},
    "nested_unet": {"widths": (8, 8, 12, 16)},
    "rolling_unet": {"widths": (8, 8, 8, 12, 16)},
    "u_mamba": {"widths": (4, 6, 8, 8)},
    "unext": {"embed_dims": (16, 12, 16), "stem_dims": (4, 8)},
}
MODELS = kv.list_models(kind="segmenter")


def family(name: str) -> str:
    """Return a name without its size."""
    return name.rpartition("_")[0]


FAMILIES = {family(name): name for name in MODELS}
ONE_OF_EACH = sorted(FAMILIES.values())


def create(name: str, **kwargs):
    """The network at a size that a test can afford."""
    return kv.create_model(name, **{**SMALL.get(family(name), NARROW), **kwargs})


def all_logits(output) -> tuple[torch.Tensor, ...]:
    return output if isinstance(output, tuple) else (output,)


def test_names():
    ours = {"ukan", "kan_unet", "res_kan_unet", "u2_kan"}
    rivals = {"unet", "attention_unet", "nested_unet", "unext", "rolling_unet", "u_mamba"}
    assert set(FAMILIES) == ours | rivals
    assert all(timm.is_model(name) for name in MODELS)


@pytest.mark.parametrize(
    ("name", "in_chans", "num_classes", "size"),
    [
        *one_of_each(((name, 12, 5, (33, 47)) for name in MODELS), lambda case: family(case[0])),
        *((name, 1, 1, (64, 32)) for name in ONE_OF_EACH),
    ],
)
def test_any_size_and_any_number_of_channels(name, in_chans, num_classes, size):
    """Published ones crash at sides that are no multiples of 32, and U-KAN at other channels than 3."""
    torch.manual_seed(0)
    model = create(name, in_chans=in_chans, num_classes=num_classes)
    assert isinstance(model, Segmenter)
    assert (model.in_chans, model.num_classes) == (in_chans, num_classes)
    outputs = all_logits(model(torch.randn(2, in_chans, *size)))
    assert {logits.shape for logits in outputs} == {(2, num_classes, *size)}
    sum(logits.square().mean() for logits in outputs).backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_output_does_not_depend_on_batch_mates_and_same_seed_gives_same_weights(name):
    models = []
    for _ in range(2):
        torch.manual_seed(3)
        models.append(create(name, num_classes=2).eval())
    x = torch.randn(3, 3, 20, 24)
    with torch.inference_mode():
        first = models[0](x)
        torch.testing.assert_close(models[1](x), first, rtol=0, atol=0)
        torch.testing.assert_close(models[0](x[:1]), first[:1], rtol=1e-4, atol=1e-5)
    assert isinstance(first, torch.Tensor)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_state_dict_round_trip_channels_last_and_bfloat16(name):
    torch.manual_seed(0)
    model = create(name, num_classes=2).eval()
    other = create(name, num_classes=2).eval()
    other.load_state_dict(model.state_dict())
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        expected = model(x)
        last = other.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
        torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = all_logits(model.train()(x))
    sum(logits.float().square().mean() for logits in outputs).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_step_of_training_lowers_the_loss(name):
    torch.manual_seed(0)
    model = create(name, num_classes=2)
    x, target = torch.randn(4, 3, 32, 32), torch.zeros(4, 32, 32, dtype=torch.long)
    target[:, :, 16:] = 1
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(3):
        loss = sum(F.cross_entropy(logits, target) for logits in all_logits(model(x)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", one_of_each(MODELS, family))
def test_what_timm_knows_of_it(name):
    with torch.device("meta"):
        model = kv.create_model(name).eval()
    config = timm.data.resolve_model_data_config(model)
    images = torch.empty(1, *config["input_size"], device="meta")
    assert model(images).shape == (1, 1, *config["input_size"][1:])
    assert isinstance(model.get_submodule(model.pretrained_cfg["classifier"]), nn.Conv2d)
    with torch.device("meta"), pytest.raises(RuntimeError, match="No pretrained weights exist"):
        create(name, pretrained=True)
    with pytest.raises(ValueError, match=f"{name} is a segmentation network and not an encoder"):
        create_segmenter("Unet", encoder_name=f"tu-{name}", num_classes=2)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_built_by_the_builder_of_its_kind(name):
    small = SMALL.get(family(name), NARROW)
    torch.manual_seed(0)
    model = BUILDERS["segmenter"](name, num_classes=3, in_chans=2, drop_rate=0.5, **small)
    assert isinstance(model, Segmenter)
    drops = [m for m in model.modules() if isinstance(m, nn.Dropout2d) and m.p]
    assert {drop.p for drop in drops} == {0.5}
    x = torch.randn(2, 2, 16, 16)
    first, *others = (all_logits(model(x))[0] for _ in range(6))
    assert not all(torch.equal(first, other) for other in others)
    with pytest.raises(ValueError, match=f"encoder_name='resnet18': {name} has a fixed encoder"):
        BUILDERS["segmenter"](name, num_classes=3, encoder_name="resnet18", **small)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_stochastic_depth_only_where_there_are_branches(name):
    if name.startswith(("ukan", "res_kan_unet", "unext", "u_mamba")):
        model = create(name, drop_path_rate=0.4)
        rates = [m.drop_prob for m in model.modules() if type(m).__name__ == "DropPath"]
        assert (min(rates), max(rates)) == (0.0, pytest.approx(0.4))
    else:
        with pytest.raises(ValueError, match=r"drop_path_rate=0\.4: \w+ has no residual branches to drop"):
            create(name, drop_path_rate=0.4)


def test_parameters_of_bases_do_not_decay():
    model = create("kan_unet_3", basis="wavelet")
    names = model.no_weight_decay()
    own = {name for name, _ in model.named_parameters() if ".basis." in name}
    assert own
    assert own <= names
    assert names <= {name for name, _ in model.named_parameters()}
    plain = create_segmenter("Unet", encoder_name="tu-convkan_4", num_classes=2, basis="wavelet", **NARROW)
    assert {name for name, _ in plain.named_parameters() if ".basis." in name} <= plain.no_weight_decay()
