"""Parameters and FLOPs against numbers worked out by hand."""

import pytest
import timm
import torch
from torch import nn

from kanvision.analysis import Cost, cost


def test_numbers_by_hand() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 5))
    model[0].requires_grad_(False)
    parameters = (3 * 8 * 9 + 8, 8 * 16 * 5 + 5)
    flops = 2 * (3 * 8 * 9 * 16 + 8 * 16 * 5)
    assert cost(model, (3, 4, 4)) == Cost(sum(parameters), parameters[1], flops, (3, 4, 4))


def test_grouped_convolution_and_shared_parameters() -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=False), nn.ReLU())
    model.append(model[0])
    result = cost(model, [8, 5, 5])
    assert result.parameters == 8 * 2 * 9
    assert result.flops == 2 * 2 * (8 * 2 * 9 * 25)


def test_attention_is_counted_on_a_cpu() -> None:
    """torch's counter has no formula for the CPU's fused attention: 2.15 GFLOP instead of 2.51."""
    model = timm.create_model("vit_tiny_patch16_224")
    tokens, width, depth = 197, 192, 12
    linear = depth * (tokens * width * width * 12) + 196 * width * 3 * 256 + width * 1000
    attention = depth * 2 * tokens * tokens * width
    assert cost(model, (3, 224, 224)).flops == 2 * (linear + attention)


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Dropout(0.5)).double()
    model[1].eval()
    model.compile()
    torch.manual_seed(0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert cost(model, (1, 3, 3)).flops == 2 * 2 * 9
    assert [module.training for module in model.modules()] == [True, True, False, True]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    expected = torch.Generator().manual_seed(0)
    assert torch.equal(torch.rand(3), torch.rand(3, generator=expected))


def test_a_failing_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(3, 2)).train()
    with pytest.raises(RuntimeError):
        cost(model, (4,))
    assert model.training
