"""What is said about settings: notes on those without effect, and the document of all keys."""

import subprocess
import sys
from pathlib import Path

import pytest

from kanvision.config import ConfigGroups, TrainConfig, compose, notes, parse_train
from kanvision.config.cli.reference import document
from kanvision.config.schema.keys import describe, keys_by_name
from kanvision.config.suggestions import closest

ROOT = Path(__file__).resolve().parents[3]
CONF = ROOT / "conf"


def notes_on(line: str) -> list[str]:
    words = line.split()
    return notes(parse_train(compose("train", words, CONF), ConfigGroups([CONF])), words)


@pytest.mark.parametrize(
    ("idle", "effective"),
    [
        ("model=vit basis=rbf", "model=convkan basis=rbf"),
        ("model=vit basis.degree=2", "basis.degree=2"),
        ("model=timm optimizer.kan_lr=0.1", "optimizer.kan_lr=0.1"),
        ("optimizer.momentum=0.8", "optimizer.name=sgd optimizer.momentum=0.8"),
        ("scheduler.decay_rate=0.2", "scheduler.name=step scheduler.decay_rate=0.2"),
        ("scheduler.warmup_epochs=0 scheduler.warmup_lr=0.1", "scheduler.warmup_lr=0.1"),
        ("augment.pad=2", "augment.crop=pad augment.pad=2"),
        ("augment.re_mode=const", "augment.re_prob=0.1 augment.re_mode=const"),
        ("mixup.mode=elem", "mixup.mixup_alpha=0.1 mixup.mode=elem"),
        ("mixup.mixup_alpha=0.1 mixup.switch_prob=0.3", "mixup.mixup_alpha=0.1"),
        ("trainer.gradient_clip_algorithm=value", "trainer.gradient_clip_val=1"),
        ("data.download=true", "data=mnist data.download=true"),
        ("trainer.accelerator=cpu trainer.precision=bf16-mixed", "trainer.accelerator=cpu"),
    ],
)
def test_a_setting_without_effect_is_noted_with_the_reason(idle: str, effective: str) -> None:
    (note,) = notes_on(idle)
    assert note.startswith(f"{idle.split()[-1]} has no effect: ")
    assert notes_on(effective) == []


def test_the_default_run_needs_no_note() -> None:
    assert notes_on("") == []
    assert notes_on("model=vit") == []


def test_settings_that_hamper_each_other_are_noted() -> None:
    (note,) = notes_on("trainer.accumulate_grad_batches=8 trainer.limit_train_batches=4")
    assert "its batch is smaller" in note
    (note,) = notes_on("trainer.max_epochs=2 trainer.check_val_every_n_epoch=5")
    assert note.endswith("val/acc1 chooses no checkpoint: the first validation would follow epoch 5")


def test_the_document_of_all_keys_is_up_to_date() -> None:
    written = (ROOT / "docs" / "config.md").read_text("utf-8")
    assert written == document(), "run: python -m kanvision.config.cli.reference > docs/config.md"


def test_the_document_has_a_row_for_every_key_and_needs_no_torch() -> None:
    script = (
        "import sys; from kanvision.config.cli.reference import document; document(); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "False", done.stderr
    rows = [line.split("|")[1].strip(" `") for line in document().splitlines() if line.startswith("| `")]
    assert set(keys_by_name(TrainConfig)) <= set(rows)
    # keys that several models or data sets share stand once; those with another default stand once more
    assert [rows.count(key) for key in ("model.kwargs", "model.top_k", "data.split_seed")] == [1, 1, 1]
    assert rows.count("model.norm") == 2  # rd_kan has a layer norm


def test_types_are_described_in_words() -> None:
    fields = {name: keys[0].expected for name, keys in keys_by_name(TrainConfig).items()}
    assert fields["optimizer.lr"] == "number > 0"
    assert fields["data.crop_pct"] == "number > 0 and <= 1"
    assert fields["data.limit"] == "whole number >= 1 or null"
    assert fields["model.norm"] == "batch, instance, group, layer or null"
    assert fields["optimizer.betas"] == "[number >= 0 and <= 1, number >= 0 and <= 1] or null"
    assert fields["trainer.deterministic"] == "true or false or warn"
    assert fields["ema"] == "section or null"
    assert describe(list[int]) == "list of whole numbers"


@pytest.mark.parametrize(
    ("word", "best"),
    [("data.rot", "data.root"), ("lr", "optimizer.lr"), ("epochs", "trainer.max_epochs"), ("xyzzy", None)],
)
def test_the_closest_word_is_found(word: str, best: str | None) -> None:
    found = closest(word, list(keys_by_name(TrainConfig)))
    assert (found[:1] or [None]) == [best]
