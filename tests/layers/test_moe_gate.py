"""The gate: its formulas against the definition, its penalty, what it needs of the device."""

import pytest
import torch
import torch.nn.functional as F

from kanvision.layers import TopKGate, collect_auxiliary


def gate(*sizes, **kwargs):
    torch.manual_seed(0)
    layer = TopKGate(*sizes, **{"dtype": torch.float64, **kwargs})
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer


def test_evaluation_is_softmax_over_the_largest_logits():
    layer = gate(5, 7, 3).eval()
    q = torch.randn(20, 5, dtype=torch.float64)
    gates, indices, values = layer(q)
    for row, logits in enumerate(q @ layer.w_gate):
        chosen = logits.argsort(descending=True)[:3]
        assert indices[row].tolist() == chosen.tolist()
        torch.testing.assert_close(values[row], logits[chosen].softmax(0))
        torch.testing.assert_close(gates[row, chosen], values[row])
    assert gates.ne(0).sum(1).eq(3).all()
    torch.testing.assert_close(gates.sum(1), torch.ones(20, dtype=torch.float64))


def test_penalty_is_that_of_the_paper():
    """Every quantity from its definition, in loops, with the noise that the gate drew."""
    layer = gate(4, 5, 2, loss_coef=0.3)
    q = torch.randn(6, 4, dtype=torch.float64)
    torch.manual_seed(1)
    with collect_auxiliary() as losses:
        gates = layer(q).gates
    torch.manual_seed(1)
    noise = torch.randn(6, 5, dtype=torch.float64)
    clean, spread = q @ layer.w_gate, F.softplus(q @ layer.w_noise) + 0.01
    noisy = clean + noise * spread
    normal = torch.distributions.Normal(0.0, 1.0)
    load = torch.zeros(5, dtype=torch.float64)
    importance = torch.zeros(5, dtype=torch.float64)
    for row in range(6):
        order = noisy[row].argsort(descending=True)[:2]
        importance[order] += noisy[row, order].softmax(0)
        for expert in range(5):
            others = torch.cat([noisy[row, :expert], noisy[row, expert + 1 :]])
            threshold = others.sort(descending=True).values[1]  # k-th largest of the others
            load[expert] += normal.cdf((clean[row, expert] - threshold) / spread[row, expert])
    torch.testing.assert_close(gates.sum(0), importance)
    expected = sum(total.var() / total.mean() ** 2 for total in (importance, load))
    torch.testing.assert_close(losses, [0.3 * expected])
    for parameter in layer.parameters():
        assert torch.autograd.grad(losses[0], parameter, retain_graph=True)[0].ne(0).all()


def test_load_is_the_chance_to_be_chosen():
    """Drawn again many times, an expert is among the chosen as often as the smooth count says."""
    layer = gate(4, 5, 2)
    q = torch.randn(1, 4, dtype=torch.float64)
    clean, spread = q @ layer.w_gate, F.softplus(q @ layer.w_noise) + 0.01
    logits = clean + torch.randn_like(clean) * spread
    top = logits.topk(3, dim=1).values
    load = layer._load(clean, logits, spread, top)
    for expert in range(5):
        drawn = logits.repeat(20000, 1)
        drawn[:, expert] = clean[0, expert] + spread[0, expert] * torch.randn(20000, dtype=torch.float64)
        share = drawn.topk(2, dim=1).indices.eq(expert).any(1).double().mean()
        assert share.item() == pytest.approx(load[0, expert].item(), abs=0.015)


def test_penalty_only_in_training_and_where_it_is_wanted():
    q = torch.randn(6, 4)
    for layer, expected in (
        (TopKGate(4, 5, 2), 1),
        (TopKGate(4, 5, 2).eval(), 0),
        (TopKGate(4, 5, 2, loss_coef=0.0), 0),
        (TopKGate(4, 5, 2, noisy=False), 1),
    ):
        with collect_auxiliary() as losses:
            layer(q)
        assert len(losses) == expected
        assert all(loss.isfinite() for loss in losses)


def test_penalty_balances_the_experts():
    """Following it alone spreads a gate that sends everything to one expert."""
    layer = gate(4, 4, 1, loss_coef=1.0, dtype=torch.float32)
    q = torch.rand(64, 4) + 0.5
    with torch.no_grad():
        layer.w_gate.zero_()[:, 0] = 2.0
        layer.w_noise.zero_()
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)

    def largest():
        return layer(q).gates.sum(0).max().item() / 64

    assert largest() > 0.9
    for _ in range(60):
        with collect_auxiliary() as losses:
            layer(q)
        optimizer.zero_grad()
        losses[0].backward()
        optimizer.step()
    assert sum(largest() for _ in range(10)) / 10 < 0.5


def test_start_gives_every_expert_the_same_chance():
    torch.manual_seed(0)
    layer = TopKGate(4, 8, 2)
    counts = layer(torch.randn(4000, 4)).gates.gt(0).sum(0)
    assert counts.min() > 850
    assert counts.max() < 1150


@pytest.mark.parametrize(("num_experts", "k"), [(1, 1), (3, 3), (3, 1)])
@pytest.mark.parametrize("noisy", [False, True])
def test_corners(num_experts, k, noisy):
    layer = TopKGate(1, num_experts, k, noisy=noisy)
    assert len(list(layer.parameters())) == 1 + noisy
    with collect_auxiliary() as losses:
        gates = layer(torch.randn(6, 1)).gates  # one channel
    (gates * torch.randn_like(gates)).sum().add(sum(losses)).backward()
    assert gates.shape == (6, num_experts)
    assert all(parameter.grad is not None for parameter in layer.parameters())
    if k == num_experts:
        torch.testing.assert_close(losses, [losses[0]])
        assert layer.eval()(torch.randn(2, 1)).gates.gt(0).all()


def test_logits_stay_exact_in_half_precision():
    layer = gate(16, 8, 2, dtype=torch.float32).eval()
    q = torch.randn(32, 16)
    want = layer(q)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = layer(q)
    assert torch.equal(got.indices, want.indices)
    assert got.gates.dtype == torch.float32
    half = TopKGate(16, 8, 2, dtype=torch.bfloat16)
    assert half(q.bfloat16()).gates.isfinite().all()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"channels": 0}, "channels=0"),
        ({"num_experts": 0}, "num_experts=0"),
        ({"k": 0}, "k=0 must be between 1 and num_experts=4"),
        ({"k": 5}, "k=5 must be between 1 and num_experts=4"),
        ({"loss_coef": -1.0}, "loss_coef=-1.0"),
    ],
)
def test_messages(kwargs, message):
    with pytest.raises(ValueError, match=message):
        TopKGate(**{"channels": 3, "num_experts": 4, "k": 2, **kwargs})


def test_wrong_input():
    with pytest.raises(ValueError, match=r"TopKGate takes \(B, 3\).*\(2, 4\)"):
        TopKGate(3, 4, 2)(torch.randn(2, 4))
