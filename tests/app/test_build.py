"""Objects that a configuration names."""

from pathlib import Path

import pytest
import torch

from kanvision.app import build
from kanvision.app.build import build_task, build_trainer, measure_cost
from kanvision.app.model import build_model
from kanvision.config import ConfigError, compose, parse_train

CONF = Path(__file__).resolve().parents[2] / "conf"


def test_float64_weights_are_loaded_as_they_are(tmp_path: Path) -> None:
    """Lightning converts the network only after loading, and weights went through float32."""
    words = ["model.size=4", "model.width_scale=0.1", f"run.dir={tmp_path}", "trainer.precision=64-true"]
    cfg = parse_train(compose("train", words, CONF))
    model = cfg.model.model_copy(update={"num_classes": 10})
    data = cfg.data.model_copy(update={"num_classes": 10})
    cfg = cfg.model_copy(update={"model": model, "data": data})
    task = build_task(cfg, build_model(cfg), {})
    weights = {
        name: torch.rand_like(value) if value.is_floating_point() else value
        for name, value in task.state_dict().items()
    }
    assert any(not torch.equal(value, value.float()) for value in weights.values())
    task.load_state_dict(weights)
    assert all(torch.equal(value, weights[name]) for name, value in task.state_dict().items())
    assert measure_cost(cfg, task.model).flops > 0


@pytest.mark.parametrize(
    ("words", "has_psutil", "problem"),
    [
        ([], False, "pip install psutil"),
        (["+callbacks.stats.cpu_stats=false"], False, ""),
        ([], True, ""),
        (["logger=none"], True, "the run has none"),
    ],
)
def test_device_statistics_are_refused_where_lightning_would_stop_in_training(
    words: list[str], has_psutil: bool, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning raises ModuleNotFoundError or MisconfigurationException once training starts."""
    monkeypatch.setattr(build, "find_spec", lambda name: name if has_psutil else None)
    stats = "+callbacks.stats._target_=pytorch_lightning.callbacks.DeviceStatsMonitor"
    words = [stats, "trainer=cpu", f"run.dir={tmp_path}", *words]
    cfg = parse_train(compose("train", words, CONF))
    if problem:
        with pytest.raises(ConfigError, match=problem):
            build_trainer(cfg)
    else:
        assert build_trainer(cfg).loggers


@pytest.mark.parametrize(("attn_init", "trace"), [("mimetic", -0.4), ("default", 0.0)])
def test_the_start_of_a_plain_vit_is_a_factor_of_its_own(
    attn_init: str, trace: float, tmp_path: Path
) -> None:
    """With the start of KAT, the product of projection and values has the trace -0.4 D in every block."""
    words = ["model=vit", "data=cifar10", "model.size=micro", f"model.attn_init={attn_init}"]
    cfg = parse_train(compose("train", [*words, f"run.dir={tmp_path}"], CONF))
    torch.manual_seed(0)
    for block in build_model(cfg).requires_grad_(False).blocks:  # type: ignore[union-attr]
        value, projection = block.attn.qkv.weight.chunk(3)[2], block.attn.proj.weight
        assert float((projection @ value).trace()) / len(value) == pytest.approx(trace, abs=0.1)


@pytest.mark.parametrize("family", ["convkan", "kat", "ukan"])
def test_gradient_checkpointing_is_a_key_of_the_model(family: str, tmp_path: Path) -> None:
    data = "synthetic_fields" if family == "ukan" else "cifar10"
    for enable in (True, False):
        words = [f"model={family}", f"data={data}", f"run.dir={tmp_path}"]
        words += [f"model.grad_checkpointing={enable}"]
        model = build_model(parse_train(compose("train", words, CONF)))
        switches = ("checkpoint", "grad_checkpointing")
        found = {getattr(part, name, None) for part in model.modules() for name in switches}
        assert (True in found) is enable


def test_a_model_without_gradient_checkpointing_is_refused(tmp_path: Path) -> None:
    words = ["model=kkan", "data=mnist", "model.grad_checkpointing=true", f"run.dir={tmp_path}"]
    with pytest.raises(ConfigError, match=r"model\.grad_checkpointing=true(.|\n)*no layer of this network"):
        build_model(parse_train(compose("train", words, CONF)))
