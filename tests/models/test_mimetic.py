"""Tests of the mimetic initialization."""

from __future__ import annotations

import pytest
import torch
from timm.layers import Attention
from torch import nn

from kanvision.models.mimetic import init_mimetic_attention


@pytest.fixture(scope="module")
def heads():
    """Queries and keys (draw, head, r, D) of two attentions, their values and projections (draw, D, D)."""
    torch.manual_seed(0)
    attns = [Attention(192, num_heads=3, qkv_bias=True) for _ in range(2)]
    for attn in attns:
        init_mimetic_attention(attn)
    query, key, value = torch.stack([attn.qkv.weight.detach() for attn in attns]).chunk(3, dim=1)
    proj = torch.stack([attn.proj.weight.detach() for attn in attns])
    return query.view(2, 3, 64, 192), key.view(2, 3, 64, 192), value, proj


def test_queries_and_keys_are_best_low_rank_approximations(heads):
    # would catch a truncation that is not the best one, a wrong scale, and a frame that is not orthonormal
    query, key, _, _ = heads
    singular = torch.linalg.svdvals(query.mT @ key)[..., :64]
    expected = []
    for seed in range(3):
        z = torch.randn(192, 192, generator=torch.Generator().manual_seed(seed)) / 192**0.5
        expected.append(0.7 * torch.linalg.svdvals(z + torch.eye(192))[:64])
    assert torch.allclose(singular, torch.stack(expected).mean(0).expand_as(singular), atol=0.05)
    assert torch.allclose(query.norm(dim=-1), singular.sqrt(), atol=1e-4)
    assert torch.allclose(key.norm(dim=-1), singular.sqrt(), atol=1e-4)


def test_draws_are_independent(heads):
    # would catch heads or layers that share one frame
    query, key, value, proj = heads
    for products in ((query.mT @ key).flatten(0, 1), proj @ value):
        diagonal = products.diagonal(dim1=-2, dim2=-1)
        off = (products - torch.diag_embed(diagonal)).flatten(1)
        assert torch.corrcoef(off).fill_diagonal_(0).abs().max() < 0.03


def test_values_and_projection_are_factors_of_all_singular_values(heads):
    *_, value, proj = heads
    singular = torch.linalg.svdvals(value @ proj)
    assert torch.allclose(value.norm(dim=1), singular.sqrt(), atol=1e-3)
    assert torch.allclose(proj.norm(dim=2), singular.sqrt(), atol=1e-3)
    noise = value @ proj + 0.4 * torch.eye(192)
    assert noise.std().item() == pytest.approx(0.4 * 192**-0.5, rel=0.02)
    assert noise.diagonal(dim1=1, dim2=2).mean().item() == pytest.approx(0, abs=0.01)


def test_one_head_and_reproducible_draws():
    weights = []
    for _ in range(2):
        torch.manual_seed(3)
        attn = Attention(12, num_heads=1)
        init_mimetic_attention(attn)
        weights.append(attn.qkv.weight.detach())
    assert torch.equal(*weights)
    query, key, _ = weights[0].split(12)
    assert torch.linalg.matrix_rank(query.mT @ key) == 12


def test_half_precision_and_device_contexts():
    # would catch numbers kept from a build on the meta device
    with torch.device("meta"):
        init_mimetic_attention(Attention(20, num_heads=2))
    attn = Attention(20, num_heads=2).bfloat16()
    init_mimetic_attention(attn)
    assert attn.qkv.weight.dtype == torch.bfloat16
    assert attn.qkv.weight.isfinite().all()


def test_mimetic_refuses_another_attention():
    with pytest.raises(ValueError, match="qkv and proj"):
        init_mimetic_attention(nn.Linear(3, 3))
    with pytest.raises(ValueError, match="width 12"):
        init_mimetic_attention(Attention(12, num_heads=3, attn_head_dim=8))
