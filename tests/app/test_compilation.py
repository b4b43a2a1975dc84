"""`trainer.compile=auto` and `trainer=cpu_bf16`: the choice, and what the header of a run says."""

from pathlib import Path

import pytest

from kanvision.app import build
from kanvision.app.compilation import MIN_BATCHES, choose_compilation
from kanvision.app.effective_batch import EffectiveBatch
from kanvision.app.run_facts import run_summary
from kanvision.app.training_run import build_run, resolve_settings
from kanvision.config import compose, parse_train

CONF = Path(__file__).parents[2] / "conf"


def configured(*words: str):
    small = ["data=digits", "model=convkan", "model.width_scale=0.125"]
    return parse_train(compose("train", [*small, *words], CONF))


@pytest.mark.parametrize(
    ("device", "num_batches", "words", "expected"),
    [
        ("cuda", MIN_BATCHES, [], f"torch.compile: {MIN_BATCHES:,} training batches on cuda"),
        ("cuda", MIN_BATCHES - 1, [], "none: 1,999 training batches; the time that it takes is won back"),
        ("cpu", 10**6, [], "none: on a CPU, functions have loops of their own"),
        ("mps", 10**6, [], "none: torch.compile is not ready for mps"),
        ("cuda", 10**6, ["trainer.strategy=fsdp"], "none: with trainer.strategy=fsdp it is not tested"),
    ],
)
def test_the_choice(device, num_batches, words, expected, monkeypatch):
    monkeypatch.setattr("kanvision.app.compilation.find_spec", lambda name: name)
    chosen = choose_compilation(configured("trainer.compile=auto", *words), device, num_batches)
    assert str(chosen).startswith(expected)
    assert chosen.mode == ("auto" if expected.startswith("torch.compile") else False)


def test_without_triton_it_is_off(monkeypatch):
    monkeypatch.setattr("kanvision.app.compilation.find_spec", lambda name: None)
    chosen = choose_compilation(configured("trainer.compile=auto"), "cuda", 10**6)
    assert chosen == (False, "it needs triton, which is not installed")


def test_a_given_mode_is_taken():
    assert choose_compilation(configured("trainer.compile=true"), "cpu", 1).mode is True
    assert choose_compilation(configured(), "cuda", 10**6).mode is False


def test_batches_of_a_run():
    batch = EffectiveBatch(8, 2, 4, 3, 0.1, None, None, "")
    assert batch.count_batches(33) == 3 * 3


def test_the_header_has_the_choice(tmp_path):
    words = ("trainer=cpu", "trainer.compile=auto", "data.limit=20", f"run.dir={tmp_path}")
    run = build_run(resolve_settings(configured(*words)))
    assert run_summary(run)["compilation"].startswith("none: on a CPU, functions have loops")
    assert run.task.model._compiled_call_impl is None


@pytest.mark.parametrize(("has_instructions", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
def test_bfloat16_on_a_cpu(has_instructions, precision, monkeypatch):
    monkeypatch.setattr(build, "has_bfloat16_instructions", lambda: has_instructions)
    cfg = configured("trainer=cpu_bf16")
    assert build.resolve_precision(cfg.trainer, "cpu") == precision
    # a recipe for GPUs has the same numbers on all CPUs
    assert build.resolve_precision(configured("trainer=ddp").trainer, "cpu") == "32-true"
    half = configured("trainer=cpu", "trainer.precision=16-mixed")
    assert build.resolve_precision(half.trainer, "cpu") == "32-true"


@pytest.mark.parametrize(("flags", "expected"), [("fma avx512_bf16 x", True), ("fma avx2", False)])
def test_instructions_are_read(flags, expected, monkeypatch):
    build.has_bfloat16_instructions.cache_clear()
    monkeypatch.setattr(Path, "read_text", lambda *_: f"flags\t: {flags}\n")
    assert build.has_bfloat16_instructions() is expected
    build.has_bfloat16_instructions.cache_clear()
