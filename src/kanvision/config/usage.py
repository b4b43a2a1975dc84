"""The text of `python train.py --help`."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from .choices import Choices
from .keys import Key, keys_by_name
from .schema import EvalConfig, TrainConfig
from .section import Section

__all__ = ["usage"]

WIDTH = 110
TRAIN_KEYS = (
    *(
        "model.size",
        "model.name",
        "data.root",
        "data.batch_size",
        "data.num_workers",
        "data.limit",
        "data.limit_test",
        "data.download",
    ),
    *("optimizer.name", "optimizer.lr", "trainer.max_epochs", "trainer.accelerator", "trainer.devices"),
    *("trainer.precision", "trainer.deterministic", "seed", "run.dir", "resume"),
)
EVAL_KEYS = (
    "ckpt",
    "mode",
    "analysis",
    "split",
    "input",
    "output",
    "data.root",
    "data.batch_size",
    "trainer.accelerator",
    "trainer.devices",
)

TRAIN_INTRO = """\
Train a vision model, test its best checkpoint, and write everything to runs/<model>_<data>/<id>.

    python train.py [flags] [group=choice ...] [key=value ...]

Four ways to override
    group=choice      take another file        python train.py model=kat data=cifar10
    key=value         set a key                python train.py optimizer.lr=3e-4 trainer.max_epochs=50
    +key=value        add a key                python train.py +model.kwargs.qkv_bias=false
    -m key=a,b        a run for each value     python train.py -m basis='glob(*)' seed=1,2,3
"""
TRAIN_EXAMPLES = """\
Examples
    python train.py                                             the default run: under a minute on two cores
    python train.py model=convkan basis=chebyshev data=mnist data.download=true
    python train.py model=kat data=image_folder data.root=photos
    python train.py experiment=kat/imagenet_tiny trainer=ddp data.root=/data/imagenet
    python train.py resume=auto                                 go on with the newest unfinished run
    python train.py debug=fdr                                   one batch of each stage, nothing written
"""
EVAL_INTRO = """\
Evaluate a trained model on the data that its own configuration names.

    python eval.py ckpt=<run folder, checkpoint file or latest> [key=value ...]
"""
EVAL_EXAMPLES = """\
Examples
    python eval.py ckpt=latest
    python eval.py ckpt=runs/convkan_digits/2026-01-31_12-00-00 split=val
    python eval.py ckpt=best.ckpt data.root=/elsewhere trainer.accelerator=cpu
    python eval.py mode=explain ckpt=latest                     what the answers rest on: pictures and scores
    python eval.py mode=predict ckpt=latest input=scene.tif     masks, or the classes of pictures
    python eval.py mode=check_data data=busi data.root=busi     every bad file of a data set
    python eval.py mode=analyse analysis=spectra ckpt=latest    a look inside: docs/analyse.md
"""
FLAGS = """\
Flags
    --cfg job         print the composed configuration and stop (add --resolve to fill in ${...})
    -m, --multirun    run once for each combination of values; one table at the end, seeds averaged
                      (sweep.md and sweep.csv; python -m kanvision.sweep <folder> makes it of any runs)
    --info            how the configuration was composed
    --hydra-help      all flags of Hydra

Every key with its type, legal values, default and meaning: docs/config.md"""


def usage(config_name: str, choices: Choices) -> str:
    """Groups with their choices, the ways to override, the most used keys, and examples.

    Args:
        config_name: `train` or `eval`.
        choices: The folder conf/.
    """
    if config_name == "eval":
        return "\n".join([EVAL_INTRO, _keys(EvalConfig, EVAL_KEYS), EVAL_EXAMPLES, FLAGS])
    return "\n".join([TRAIN_INTRO, _groups(choices), _keys(TrainConfig, TRAIN_KEYS), TRAIN_EXAMPLES, FLAGS])


def _groups(choices: Choices) -> str:
    lines = ["Groups and their choices (* unless you choose)"]
    for group in choices.groups:
        default = choices.defaults[group]
        names = [f"{name}*" if name == default else name for name in choices.of(group)]
        if default is not None and "${" in default:
            names.append("by default the one named <model>_<data>, if there is one")
        lines += _entry(group, "  ".join(names) or "none yet")
    return "\n".join(lines) + "\n"


def _keys(root: type[Section], names: Sequence[str]) -> str:
    index = keys_by_name(root)
    lines = ["Most used keys"]
    for name in names:
        lines += _entry(name, _about(index[name]), indent=24)
    return "\n".join(lines) + "\n"


def _about(keys: Sequence[Key]) -> str:
    """Meaning and legal values; models that give a key a meaning of their own are named."""
    families: dict[str, list[str]] = {}
    for key in keys:
        families.setdefault(f"{key.meaning} [{key.expected}]", []).append(key.family or "")
    if len(families) == 1:
        return next(iter(families))
    return " ".join(f"{', '.join(names)}: {text}" for text, names in families.items())


def _entry(name: str, text: str, indent: int = 18) -> list[str]:
    lines = textwrap.wrap(text, WIDTH - indent - 4, break_on_hyphens=False)
    first, *rest = lines or [""]
    return [f"    {name:<{indent}}{first}", *(" " * (indent + 4) + line for line in rest)]
