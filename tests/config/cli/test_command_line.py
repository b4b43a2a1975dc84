"""Mistakes on the command line: each is named with the reason and the way out, all at once, before torch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kanvision.config import Problem, check_command_line
from kanvision.config.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]


def text(problems: list[Problem]) -> str:
    return str(ConfigError(problems)) if problems else ""


# command line -> words of the one complaint about it
MISTAKES = {
    "model=kta": ["no such choice of model", "did you mean model=kat?", "legal: kat, ", "convkan"],
    "model=[kat,vta]": ["no such choice of model", "model=vit"],
    "+model=kat": ["without +", "write model=kat"],
    "~model": ["model needs a choice", "convkan"],
    "model=null": ["model needs a choice"],
    "recipe=null": ["recipe needs a choice", "write ~recipe"],
    "model=": ["no such choice of model"],
    "data=digit": ["did you mean data=digits?"],
    "recipe=kat_imagenetz": ["no such choice of recipe", "kat_imagenet"],
    "experiment=kat/imagenet_tny": ["did you mean experiment=kat/imagenet_tiny?"],
    "debug=7": ["no such choice of debug", "fdr"],
    "model@place=kat": ["model@place=kat"],
    "data.rot=x": ["unknown key", "closest: data.root (text or null)", "Folder on disk"],
    "lr=0.1": ["unknown key", "closest: optimizer.lr (number > 0)"],
    "optimizer.learning_rte=0.1": ["unknown key", "keys of optimizer: optimizer.name, optimizer.lr,"],
    "qwertz=1": ["unknown key", "keys of the top: model, basis,"],
    "model.num_groups=4": ["model=convkan has no such key", "belongs to model=kat"],
    "model.preset=kagm": ["expected kan, efficient_kan, ", "did you mean model.preset=kagn?"],
    "model.pointwise_preset=kacm": ["did you mean model.pointwise_preset=kacn?"],
    "seed.x=3": ["seed is a single value"],
    "basis.degre=4": ["unknown key", "closest: basis.degree"],
    "+basis.degre=4": ["basis=gram has no such key", "degree"],
    "basis.degree=x": ["expected whole number", "default is 3"],
    "basis.name=grm": ["no such basis", "legal: gram,"],
    "model.kwargs.foo=1": ["new keys are added with +", "+model.kwargs.foo=1"],
    "ema.decay=2": ["expected number > 0 and < 1", "Weight of the old average"],
    "+ema.decay=2": ["expected number > 0 and < 1"],
    "+data.num_workers=3": ["exists already", "write data.num_workers=3"],
    "+optimizer.foo=3": ["unknown key", "keys of optimizer"],
    "~optimizer.foo": ["unknown key"],
    "~ema.decay": ["ema is null and has no keys"],
    "~data.mean": ["a value is needed: list of numbers"],
    "optimizer.lr=banana": ["optimizer.lr=banana", "expected number > 0", "Learning rate"],
    "optimizer.lr=-1": ["expected number > 0"],
    "optimizer.lr=nan": ["expected number > 0"],
    "optimizer.lr=true": ["expected number > 0"],
    "optimizer=sgd": ["a section, not a single value", "optimizer.name"],
    "trainer.max_epochs=2.5": ["expected whole number >= 1"],
    "seed=true": ["seed=true", "expected whole number >= 0 and < 4,294,967,296"],
    "test=perhaps": ["expected true or false"],
    "scheduler.name=cosin": ["expected cosine, linear,", "did you mean scheduler.name=cosine?"],
    "model.size=2": ["did you mean model.size=4?"],
    "~callbacks.best.dirpath": [
        "it refers to other keys (${run.dir}/checkpoints), and only a plain value can be deleted",
        "set it: callbacks.best.dirpath=<value>",
    ],
    "model.norm=batc": ["expected batch, instance, group, layer or null", "did you mean model.norm=batch?"],
    "model.family=kan": ["no known model.family", "legal: convkan, vgg_kan"],
    "model.kwargs=3": ["expected section with keys of your own"],
    "augment.scale=[0.1]": ["expected [number >= 0 and <= 1, number >= 0 and <= 1]"],
    "augment.scale=[0.1,2.0]": ["expected [number >= 0 and <= 1, number >= 0 and <= 1]"],
    "trainer.devices=none": ["expected whole number >= 1, auto or list of whole numbers"],
    "data.root=${nowhere}": ["cannot be resolved"],
    "model=kat,vit": ["several values need several runs", "-m model=kat,vit"],
    "seed=choice(1,2)": ["several values need several runs"],
    "seed": ["not of the form key=value"],
    "data.batch_size={a": ["cannot be read", "quote it twice"],
    "data.batch_size=a=b": ["cannot be read", "'data.batch_size=\"a=b\"'"],
    "seed =3": ["spaces around =", "write seed=3"],
    "hydra.sweep.foo=3": ["unknown key"],
    "hydra/launcher=nothing": ["no such choice of hydra/launcher", "basic"],
    "hydra/launcher=submitit_slurm": ['pip install "kanvision[slurm]"'],
}


@pytest.mark.parametrize("word", MISTAKES)
def test_a_mistake_is_named_with_its_reason_and_the_way_out(word: str, judge) -> None:
    problems = judge(word)
    assert len(problems) == 1, text(problems)
    said = text(problems)
    assert [part for part in [word, *MISTAKES[word]] if part not in said] == [], said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["model=vit", "model.plain=true"],
            "model=vit has no KAN layers, so it is plain as it is\n     leave it out",
        ),
        (["model=unet", "data=glas", "model.plain=false"], "model=unet has no KAN layers"),
        (
            ["model=ukan", "data=glas", "model.preset=group_ratonal"],
            "did you mean model.preset=group_rational?",
        ),
    ],
)
def test_a_mistake_about_a_chosen_model_names_that_model(words: list[str], said: str, judge) -> None:
    assert said in text(judge(*words))


def test_a_key_of_a_section_that_is_null_calls_for_the_others(judge) -> None:
    (problem,) = judge("ema.warmup=true")
    assert problem.keys == ("ema.decay",)
    assert "a value is needed" in problem.why


LEGAL = [
    "model=kat data=cifar10 basis=bspline trainer=cpu",
    "optimizer.lr=3e-4 data.root=null data.limit=100 run.name=2024 test=off",
    "+ema.decay=0.999 ++seed=3 ~loss.label_smoothing +model.kwargs.foo=1",
    "ema.decay=0.999 ema.warmup=true augment.random_affine.degrees=10",
    "model=kat data=imagenet ema.decay=0.999",
    "ema={decay:0.99} trainer.devices=[0,1] trainer.accelerator=gpu trainer.limit_train_batches=4",
    "callbacks=none logger=[default] ~experiment ~recipe debug='nan'",
    "model=timm model.name=resnet50 hydra.job.name=x hydra.run.dir=elsewhere",
    "data.root='a=b' recipe=kat_imagenet model=kat data=imagenet",
]


@pytest.mark.parametrize("line", LEGAL)
def test_a_legal_command_line_passes(line: str, judge) -> None:
    words = [word.replace("'a=b'", '"a=b"') for word in line.split()]
    assert text(judge(*words)) == ""


def test_all_mistakes_come_in_one_message_in_the_order_of_the_command_line(judge) -> None:
    words = ["optimizer.lr=banana", "data.rot=x", "model=kta", "seed=-1", "x={", "trainer.max_epochs=0"]
    problems = judge(*words)
    assert [problem.given[0] for problem in problems] == words
    assert text(problems).startswith("6 problems in")


def test_mistakes_in_values_do_not_hide_what_does_not_fit_together(judge) -> None:
    problems = judge("optimizer.lr=banana", "loss.name=dice", "data.mean=[1,2]")
    assert [problem.keys[0] for problem in problems] == ["optimizer.lr", "loss.name", "data.mean"]


def test_a_wrong_choice_casts_no_doubt_on_keys_of_the_choice_that_was_meant(judge) -> None:
    problems = judge("model=kta", "model.num_groups=16", "recipe=kat_imagenett")
    assert [problem.keys[0] for problem in problems] == ["model", "recipe"]


def test_one_wrong_value_is_not_reported_again_where_it_is_copied_to(judge) -> None:
    assert len(judge("data.num_classes=x")) == 1
    assert len(judge("model=kat", "data=imagenet", "model.size=huge")) == 1


@pytest.mark.parametrize(
    "words",
    [
        ("seed=1", "seed=2"),
        ("model=kat", "model=vit"),
        ("seed=1", "++seed=2"),
        ("optimizer.lr=banana", "optimizer.lr=0.1"),
        ("data=nothing", "data=mnist"),
    ],
)
def test_the_last_of_several_values_of_a_key_counts(words: tuple[str, str], conf: Path, capsys) -> None:
    assert check_command_line("train", [words[0], "test=false", words[1]], conf).argv == [
        "test=false",
        words[1],
    ]
    assert capsys.readouterr().err == f"Note: {words[1]} replaces {words[0]}\n"


# --- files of the user --------------------------------------------------------------------------------------


@pytest.fixture
def own_conf(tmp_path: Path) -> Path:
    def write(name: str, content: str) -> None:
        path = tmp_path / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, "utf-8")

    write("experiment/bad", "# @package _global_\noptimizer:\n  lrr: 1\n  lr: fast\nbogus: {a: 1}\n")
    write("experiment/wrong_choice", "# @package _global_\ndefaults: [{override /model: kta}]\n")
    write(
        "data/masks",
        "defaults: [_masks, _self_]\nname: synthetic_fields\nmode: binary\nroot: x\nnum_classes: 2\n"
        "in_chans: 3\nimg_size: 64\nmean: [0.5, 0.5, 0.5]\nstd: [0.5, 0.5, 0.5]\n",
    )
    return tmp_path


def test_mistakes_in_an_experiment_file_are_found_and_the_file_is_named(judge, own_conf: Path) -> None:
    problems = judge("experiment=bad", "seed=x", folders=(own_conf,))
    assert sorted(problem.keys[0] for problem in problems) == [
        "bogus",
        "optimizer.lr",
        "optimizer.lrr",
        "seed",
    ]
    assert text(problems).count("experiment/bad.yaml") == 3
    assert "closest: optimizer.lr" in text(problems)


def test_a_wrong_choice_in_an_experiment_file_is_found(judge, own_conf: Path) -> None:
    (problem,) = judge("experiment=wrong_choice", folders=(own_conf,))
    assert problem.given == ("experiment=wrong_choice",)
    assert "model/kta" in problem.why


def test_segmentation_data_with_a_classifier_names_what_would_fit(judge, own_conf: Path) -> None:
    (problem,) = judge("data=masks", "model=kat", folders=(own_conf,))
    assert problem.given == ("model=kat", "data=masks")
    assert "the data are for segmentation, but model=kat is a classifier" in problem.why
    assert "data for a classifier: cifar10" in problem.fix
    assert "masks" not in problem.fix


# --- evaluation ---------------------------------------------------------------------------------------------


def test_evaluation_needs_a_checkpoint_that_is_there(judge, tmp_path: Path) -> None:
    (problem,) = judge(config_name="eval")
    assert (problem.given, "a value is needed" in problem.why) == (("ckpt",), True)
    (problem,) = judge(f"ckpt={tmp_path}/none.ckpt", config_name="eval")
    assert "there is no file or folder" in problem.why
    (problem,) = judge("ckpt=latest", f"run_root={tmp_path}", config_name="eval")
    assert "there is no run in" in problem.why
    assert judge(f"ckpt={tmp_path}", config_name="eval") == []


def test_evaluation_says_what_comes_from_the_run(judge, tmp_path: Path) -> None:
    problems = judge(f"ckpt={tmp_path}", "model=kat", "data.mean=[1]", "splt=val", config_name="eval")
    assert [problem.given[0] for problem in problems] == ["model=kat", "data.mean=[1]", "splt=val"]
    assert "the run's own configuration" in problems[0].why
    assert "data.root" in problems[1].fix
    assert "closest: split" in problems[2].fix


# --- the front as a program ---------------------------------------------------------------------------------


def test_a_sound_command_line_is_returned_with_the_flags_first(conf: Path) -> None:
    assert check_command_line("train", ["seed=1", "-m", "model=kat,vit"], conf).argv == [
        "-m", "seed=1", "model=kat,vit",
    ]  # fmt: skip
    # Hydra would read a number
    assert check_command_line("train", ["debug=nan"], conf).argv == ["debug='nan'"]
    # Hydra would refuse a key of a section that is null
    assert check_command_line("train", ["ema.decay=0.9"], conf).argv == ["++ema.decay=0.9"]


@pytest.mark.parametrize("flags", [["--cfg", "job"], ["--info", "config"], ["--hydra-help"], ["-c", "all"]])
def test_flags_that_only_show_something_are_left_to_hydra(flags: list[str], conf: Path) -> None:
    assert check_command_line("train", [*flags, "model=kta"], conf).argv == [*flags, "model=kta"]


@pytest.mark.parametrize(
    "argv", [["model=kat", "--info"], ["--info", "model=kat"], ["-i", "~recipe", "model=kat"]]
)
def test_a_flag_without_a_value_takes_no_override_as_its_value(argv: list[str], conf: Path) -> None:
    # would catch a usage message of argparse for `train.py model=kat --info`
    words = check_command_line("train", argv, conf).argv
    assert words[0] == "--info=all"
    assert words[1:] == [word for word in argv if "-i" not in word]


@pytest.mark.skipif(os.name == "nt", reason="no pipes of POSIX")
@pytest.mark.parametrize("words", ["--help", "--cfg job", "--info config"])
def test_a_reader_that_stops_early_is_no_error(words: str) -> None:
    # would catch the tracebacks of `train.py --info | head`
    command = f"{sys.executable} {ROOT / 'train.py'} {words} | head -n 0"
    process = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, cwd=ROOT)
    assert process.stderr == ""


@pytest.mark.parametrize(
    ("argv", "count"),
    [(["--lr=3"], 1), (["--config-dir", "/nowhere/at/all"], 1), (["model=kta", "--seed", "3", "--x"], 4)],
)
def test_flags_that_do_not_exist_are_refused(argv: list[str], count: int, conf: Path, capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        check_command_line("train", argv, conf)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith(f"{count} problem")


def test_only_the_first_process_speaks(conf: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(SystemExit):
        check_command_line("train", ["model=kta"], conf)
    assert capsys.readouterr().err == ""


def test_processes_that_lightning_starts_are_not_judged_again(
    conf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    argv = ["-cp", "elsewhere", "-cn", "config.yaml", 'hydra.run.dir="runs/a"', "nonsense=1"]
    assert check_command_line("train", argv, conf).argv == argv


def run(*argv: str, script: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script] if script else [sys.executable]
    return subprocess.run(
        [*command, *argv],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
    )


def test_the_front_answers_without_torch() -> None:
    script = """
import sys
from pathlib import Path
from kanvision.config import check_command_line
try:
    check_command_line("train", sys.argv[1:], Path("conf"))
except SystemExit as stopped:
    heavy = {"torch", "timm", "pytorch_lightning", "numpy", "torchmetrics"} & set(sys.modules)
    print(stopped.code, sorted(heavy))
"""
    for argv in (["model=kta", "optimizer.lr=banana", "data.rot=x"], ["--help"]):
        done = run(*argv, script=script)
        assert done.stdout.splitlines()[-1] == f"{0 if argv == ['--help'] else 2} []", done.stderr


def test_train_refuses_in_one_block_without_a_traceback() -> None:
    done = run("train.py", "model=kta", "optimizer.lr=banana", "data.rot=x")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("3 problems in the command line:\n  1. model=kta\n")
    assert "Traceback" not in done.stderr
    assert "HYDRA_FULL_ERROR" not in done.stderr


@pytest.mark.parametrize("program", ["train", "eval"])
def test_help_shows_groups_keys_and_examples(program: str) -> None:
    done = run(f"{program}.py", "--help")
    assert done.returncode == 0
    expected = {
        "train": [
            "convkan*",
            "gram*",
            "digits*",
            "kat/imagenet_tiny",
            "group=choice",
            "+key=value",
            "optimizer.lr",
        ],
        "eval": ["ckpt=latest", "split", "data.root"],
    }
    assert [part for part in [*expected[program], "docs/config.md"] if part not in done.stdout] == []
    assert max(map(len, done.stdout.splitlines())) <= 115


def test_hydra_still_shows_the_composed_configuration() -> None:
    done = run("train.py", "--cfg", "job", "model=kat", "--resolve")
    assert done.returncode == 0
    assert "name: kat_tiny_patch16_224" in done.stdout
