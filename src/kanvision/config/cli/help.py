"""Text of the help of train and eval."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from kanvision.config.cards import card, table_text, tables
from kanvision.config.errors import ConfigError, Problem
from kanvision.config.experiments import GROUP
from kanvision.config.groups import ConfigGroups
from kanvision.config.program import key_reference, with_programs
from kanvision.config.schema.base import Section
from kanvision.config.schema.keys import Key, keys_by_name
from kanvision.config.schema.root import EvalConfig, TrainConfig
from kanvision.config.suggestions import closest

__all__ = ["experiment_cards", "usage"]

WIDTH = 115
TRAIN_KEYS = (
    "model.size model.name data.root data.batch_size data.num_workers data.limit data.limit_test "
    "data.download optimizer.name optimizer.lr trainer.max_epochs trainer.accelerator trainer.devices "
    "trainer.precision trainer.deterministic seed run.dir resume"
)
EVAL_KEYS = (
    "ckpt mode analysis split input output data.root data.batch_size trainer.accelerator trainer.devices"
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
    python train.py resume=auto                                 resume the newest unfinished run
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
    python eval.py mode=explain ckpt=latest                     what predictions depend on: images, scores
    python eval.py mode=predict ckpt=latest input=scene.tif     masks, or the classes of images
    python eval.py mode=export ckpt=latest format=[onnx]        files for other programs: docs/export.md
    python eval.py mode=check_data data=busi data.root=busi     every bad file of a data set
    python eval.py mode=functions ckpt=latest                   the learned functions of all layers
    python eval.py mode=report input=runs/sweeps/basis          runs compared over seeds and images
    python eval.py mode=benchmark models=[convkan_4,convkan_4:plain]
    python eval.py mode=analyze analysis=spectra ckpt=latest    an analysis of the network: docs/analyze.md
"""
FLAGS = """\
Flags
    --cfg job         print the composed configuration and stop (add --resolve to fill in ${...})
    -m, --multirun    run once for each combination of values; one table at the end, seeds averaged
                      (sweep.md and sweep.csv; python -m kanvision.sweep <folder> makes it of any runs)
    --info            with experiment=<row>: its command, scores, hardware, cost, source; else the composition
    --hydra-help      all flags of Hydra

Every key with its type, legal values, default and meaning: {keys}"""


def usage(config_name: str, choices: ConfigGroups) -> str:
    """Return the help: groups and choices, ways to override, the most used keys, and examples.

    Args:
        config_name: `train` or `eval`.
        choices: The folder conf/.
    """
    if config_name == "eval":
        parts = [EVAL_INTRO, _keys(EvalConfig, EVAL_KEYS), EVAL_EXAMPLES, FLAGS]
    else:
        parts = [TRAIN_INTRO, _groups(choices), _keys(TrainConfig, TRAIN_KEYS), TRAIN_EXAMPLES, FLAGS]
    return with_programs("\n".join(parts)).replace("{keys}", key_reference())


def experiment_cards(names: Sequence[str], choices: ConfigGroups) -> str:
    """Return the cards of rows and the lists of tables with these names.

    Args:
        names: Choices of `experiment`, or names of tables.
        choices: The folder conf/.

    Raises:
        ConfigError: There is no such row and no such table, or a table is malformed.
    """
    rows = choices.experiments
    by_table = tables(rows.values())
    texts, problems = [], []
    for name in names:
        if name in rows:
            texts.append(card(rows[name]))
        elif name in by_table:
            texts.append(table_text(by_table[name]))
        else:
            near = " or ".join(f"{GROUP}={other}" for other in closest(name, [*rows, *by_table]))
            guess = f"did you mean {near}?\n" if near else ""
            why = "no such row of conf/tables, and no such table"
            fix = f"{guess}tables: {', '.join(by_table)}"
            problems.append(Problem((GROUP,), (f"{GROUP}={name}",), why, fix))
    if problems:
        raise ConfigError(problems, "the command line")
    return "\n\n".join(texts)


def _groups(choices: ConfigGroups) -> str:
    lines = ["Groups and their choices (* unless you choose)"]
    for group in choices.groups:
        default = choices.defaults[group]
        if group == GROUP:
            lines += _entry(group, _table_names(choices))
            continue
        names = [f"{name}*" if name == default else name for name in choices.of(group)]
        if default is not None and "${" in default:
            names = [f"by default <model>_<data>, if that is one of the {len(names)} in conf/{group}"]
        lines += _entry(group, "  ".join(names) or "none yet")
    return "\n".join(lines) + "\n"


def _table_names(choices: ConfigGroups) -> str:
    """Return the tables by paper, with their number of rows."""
    papers: dict[str, list[str]] = {}
    for name, rows in tables(choices.experiments.values()).items():
        paper = rows[0].name.partition("/")[0]
        papers.setdefault(paper, []).append(f"{name.removeprefix(f'{paper}_')} ({len(rows)})")
    listed = "; ".join(f"{paper}: {', '.join(names)}" for paper, names in papers.items())
    return f"rows of tables <paper>_<table>; --help {GROUP}=<paper>_<table> lists one. {listed}"


def _keys(root: type[Section], names: str) -> str:
    index = keys_by_name(root)
    lines = ["Most used keys"]
    for name in names.split():
        lines += _entry(name, _about(index[name]), indent=24)
    return "\n".join(lines) + "\n"


def _about(keys: Sequence[Key]) -> str:
    """Return meaning and legal values of a key; those of one model if they differ."""
    families: dict[str, list[str]] = {}
    for key in keys:
        families.setdefault(key.expected, []).append(key.family or "")
    values, names = next(iter(families.items()))
    if len(families) == 1:
        return f"{keys[0].meaning} [{values}]"
    return f"Each model has its own. [{', '.join(names)}: {values}]"


def _entry(name: str, text: str, indent: int = 18) -> list[str]:
    lines = textwrap.wrap(text, WIDTH - indent - 4, break_on_hyphens=False)
    first, *rest = lines or [""]
    return [f"    {name:<{indent}}{first}", *(" " * (indent + 4) + line for line in rest)]
