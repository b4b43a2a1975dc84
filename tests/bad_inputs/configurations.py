"""Bad command lines and settings."""

from __future__ import annotations

from pathlib import Path

from .case import Case, typed


def aliases(folder: Path) -> None:
    (folder / "experiment").mkdir()
    lines = ["a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    (folder / "experiment" / "laughs.yaml").write_text("\n".join(lines), "utf-8")
    typed("--config-dir={} experiment=laughs")(folder)


def table(folder: Path) -> None:
    (folder / "tables").mkdir()
    text = (
        "title: mine\nexperiments: kat/mine_<row>\nsource: notes\nrows: {a: {publishd: {acc1: 1}}}\n"
        "hardware: any\n"
    )
    (folder / "tables" / "kat_mine.yaml").write_text(text, "utf-8")
    typed("--config-dir={} experiment=kat/mine_a")(folder)


CASES = (
    Case(
        "`model=kta`: no such choice", typed("model=kta"), ("model=kta", "did you mean model=kat?", "legal: ")
    ),
    Case("`data.rot=x`: no such key", typed("data.rot=x"), ("data.rot=x", "closest: data.root")),
    Case("`optimizer.lr=banana`: no number", typed("optimizer.lr=banana"), ("expected number > 0",)),
    Case("`seed=true`: no number either", typed("seed=true"), ("expected whole number >= 0",)),
    Case("`trainer.max_epochs=0`: too small", typed("trainer.max_epochs=0"), ("expected whole number >= 1",)),
    Case(
        "`basis.degree=x`: of another type than its default",
        typed("basis.degree=x"),
        ("expected whole number", "its default is 3"),
    ),
    Case(
        "`model.num_groups=4`: a key of another model", typed("model.num_groups=4"), ("belongs to model=kat",)
    ),
    Case("`--epochs=5`: a flag", typed("--epochs=5"), ("no such flag", "keys are written without dashes")),
    Case(
        "`seed=1,2`: several values in one run",
        typed("seed=1,2"),
        ("several values need several runs", "python train.py -m seed=1,2"),
    ),
    Case(
        "`model=ukan data=cifar10`: a segmenter for classes",
        typed("model=ukan data=cifar10"),
        ("the data are for classification, but model=ukan is a segmenter", "models for classification"),
    ),
    Case(
        "an odd batch that is to be mixed in pairs",
        typed("data.batch_size=7 mixup.mixup_alpha=0.2"),
        ("data.batch_size=7", "images are mixed in pairs", "take an even data.batch_size"),
    ),
    Case(
        "a batch that two processes cannot share",
        typed("trainer=ddp_sim trainer.global_batch_size=63"),
        ("63 images cannot be divided equally", "take 62 or 64"),
    ),
    Case(
        "patches that do not tile the image",
        typed("model=kat data=cifar10 model.patch_size=5"),
        ("the patches do not tile the image", "divisors of 32 near it"),
    ),
    Case(
        "a palette and a threshold",
        typed("model=unet data=segmentation_folder data.palette={0:a,1:b} data.threshold=127"),
        ("data.palette={0:a,1:b}", "the palette names the class of every value", "take data.threshold=0"),
    ),
    Case(
        "two values for one channel",
        typed("data.mean=[0.1,0.2]"),
        ("2 values for 1 channels", "give one value for each channel"),
    ),
    Case(
        "`model=timm model.name=resnet17`: not in the registry",
        typed("model=timm model.name=resnet17"),
        ("no such name in timm's registry", "nearest: resnet18"),
    ),
    Case(
        "`optimizer.name=adahessian`: an optimizer that training cannot serve",
        typed("optimizer.name=adahessian"),
        ("optimizer.name=adahessian", "needs second derivatives"),
    ),
    Case(
        "Lightning's StochasticWeightAveraging as a callback",
        typed("+callbacks.swa._target_=pytorch_lightning.callbacks.StochasticWeightAveraging"),
        ("callbacks.swa._target_", "after the last checkpoint", "callbacks=[default,swa]"),
    ),
    Case(
        "Lightning's LearningRateFinder as a callback",
        typed("+callbacks.finder._target_=pytorch_lightning.callbacks.LearningRateFinder"),
        ("callbacks.finder._target_", "does not hold", "-m optimizer.lr="),
    ),
    Case(
        "`callbacks.progress._target_=os.system`: code from elsewhere",
        typed("callbacks.progress._target_=os.system"),
        ("a configuration may only call what belongs to a known package", "legal beginnings: kanvision."),
    ),
    Case(
        "`+hydra.job.env_set.PYTHONPATH=...`: other programs",
        typed("+hydra.job.env_set.PYTHONPATH=/elsewhere"),
        ("does not change the environment of the program", "set variables in the shell"),
    ),
    Case(
        "`hydra.searchpath=[...]`: configurations from elsewhere",
        typed("hydra.searchpath=[file:///elsewhere]"),
        ("from conf/ and from one more folder", "--config-dir=<folder>"),
    ),
    Case(
        "`--experimental-rerun=config.pickle`",
        typed("--experimental-rerun=config.pickle"),
        ("a pickle can run any code", ".hydra/overrides.yaml"),
    ),
    Case(
        "`recipe.source=${oc.env:HOME}`: a secret in the record",
        typed("recipe.source=${oc.env:HOME}"),
        ("written to config.yaml and every checkpoint",),
    ),
    Case(
        "`experiment=kat/imagenet_tny`: no row of a table",
        typed("experiment=kat/imagenet_tny"),
        ("did you mean experiment=kat/imagenet_tiny?", "--help experiment=<table>"),
    ),
    Case(
        "a table of experiments with a field that there is not",
        table,
        ("tables/kat_mine.yaml: rows.a.set", "publishd is no field", "did you mean published?"),
    ),
    Case(
        "a file of a few aliases that stand for billions of entries",
        aliases,
        ("laughs.yaml", "fewer aliases"),
    ),
    Case(
        "`resume=nowhere`: no such run",
        typed("resume=nowhere"),
        ("there is no such file or folder", "resume=auto"),
    ),
    Case(
        "five mistakes at once",
        typed("model=kta data=digit seed=x optimizer.lr=-1 foo=1"),
        ("5 problems in the command line", "model=kta", "data=digit", "seed=x", "optimizer.lr=-1", "foo=1"),
    ),
    Case("`eval.py` without a checkpoint", typed("mode=test", "eval"), ("ckpt", "a value is needed")),
    Case("`eval.py mode=predict` without an input", typed("mode=predict ckpt={}", "eval"), ("input",)),
    Case(
        "`eval.py mode=check_data data=busy`: no such data set",
        typed("mode=check_data data=busy", "eval"),
        ("did you mean data=busi?",),
    ),
)
