"""Settings that cannot go together: each case with the reason, the way out, and its legal neighbor."""

from pathlib import Path

import pytest

from kanvision.config import ConfigError, ConfigGroups, compose, parse_train
from kanvision.config.errors import Problem

CONF = Path(__file__).resolve().parents[3] / "conf"
CHOICES = ConfigGroups([CONF])

# refused line -> words of the complaint, a legal line next to it
CASES = {
    "data=synthetic_fields": ("the data are for segmentation", "data=synthetic_fields model=smp"),
    "loss.name=dice": ("legal: cross_entropy, bce", "loss.name=bce"),
    "model=smp data=synthetic_fields mixup.mixup_alpha=0.2": (
        "not available for images with masks",
        "model=smp data=synthetic_fields mixup.mixup_alpha=0",
    ),
    "model=smp data=synthetic_fields augment.auto_augment=rand-m9": (
        "legal: null",
        "augment.auto_augment=rand-m9",
    ),
    "model=smp data=synthetic_fields augment.crop=pad": (
        "legal: none, random_resized",
        "model=smp data=synthetic_fields augment.crop=random_resized",
    ),
    "augment.rot90=0.5": ("only available for images with masks", "augment.rot90=0"),
    "data.mean=null": ("measured for images with masks only", "data.mean=[0.5]"),
    "model=smp data=busi data.in_chans=1 data.mean=null data.std=null data.preprocessing=u_kan": (
        "for color images",
        "model=smp data=busi data.preprocessing=u_kan",
    ),
    "model=smp data=busi data.num_classes=3": ("foreground and background", "model=smp data=busi"),
    "model=smp data=synthetic_fields data.num_classes=1": (
        "nothing to choose from",
        "model=smp data=synthetic_fields data.num_classes=2",
    ),
    "model=smp data=segmentation_folder data.bands=[1,2]": (
        "2 bands for 3 channels",
        "model=smp data=segmentation_folder data.bands=[4,3,2]",
    ),
    "model=smp data=segmentation_folder data.foreground=all data.mode=multiclass": (
        "hold the class of each pixel",
        "model=smp data=segmentation_folder data.foreground=[1,2]",
    ),
    "model=smp data=segmentation_folder data.foreground=[3] data.threshold=127": (
        "the gray level decides",
        "model=smp data=segmentation_folder data.threshold=127",
    ),
    "model=smp data=segmentation_folder data.foreground=[0,3]": (
        "0 is background",
        "model=smp data=segmentation_folder data.foreground=all",
    ),
    "model=smp data=segmentation_folder data.foreground=[3,255] data.ignore_index=255": (
        "leave these values out",
        "model=smp data=segmentation_folder data.foreground=[3] data.ignore_index=255",
    ),
    "model=smp data=segmentation_folder data.palette={0:a,1:b} data.threshold=3": (
        "names the class of every value",
        "model=smp data=segmentation_folder data.palette={0:a,1:b}",
    ),
    "model=smp data=segmentation_folder data.palette={0:a,1:b} data.foreground=all": (
        "names the class of every value",
        "model=smp data=segmentation_folder data.palette={0x000000:a,0xff0000:b} data.mode=multiclass",
    ),
    "model=smp data=segmentation_folder data.palette={0:a,1:b} data.mode=multilabel loss.name=bce": (
        "a folder for each class",
        "model=smp data=segmentation_folder data.palette=classes.csv",
    ),
    "data.mean=[1,2]": ("2 values for 1 channels", "data.mean=[1,2] data.std=[1,2] data.in_chans=2"),
    "data.in_chans=3 data.mean=[1,1,1]": ("1 value for 3 channels", "data.in_chans=1"),
    "model=kat model.img_size=32": ("another size than that of the images", "model=kat data.img_size=32"),
    "model=kat model.patch_size=3": ("do not tile the image", "model=kat model.patch_size=2"),
    "model=vit model.embed_dim=100": ("evenly over 3 heads", "model=vit model.embed_dim=99"),
    "model=vit model.num_heads=5": ("width of 192", "model=vit model.num_heads=4"),
    "model=kat model.num_groups=7": ("7 groups of rationals", "model=kat model.num_groups=6"),
    "model=kkan model.padding=0": ("need images of 10 pixels", "model=kkan"),
    "model=kkan model.padding=0 data.img_size=9": (
        "need images of 10 pixels",
        "model=kkan model.padding=0 data.img_size=10",
    ),
    "model=vgg_kan model.plain=true model.form=moe": ("has no other form", "model=vgg_kan model.plain=true"),
    "model=res_kan model.plain=true model.head=hidden_kan": (
        "no KAN classifier",
        "model=res_kan model.plain=true model.head=vgg",
    ),
    "model=dense_kan model.form=moe_bottleneck model.top_k=9": (
        "more experts are active",
        "model=dense_kan model.top_k=9",
    ),
    "data.batch_size=7 mixup.cutmix_alpha=1": ("mixed in pairs", "data.batch_size=7"),
    "optimizer.lr_scaling=linear ~recipe": (
        "set recipe.batch_size",
        "optimizer.lr_scaling=linear recipe.batch_size=64",
    ),
    "trainer.strategy=single_device trainer.devices=2": ("one device of one machine", "trainer.devices=2"),
    "trainer.strategy=single_device trainer.num_nodes=2": (
        "one device of one machine",
        "trainer.num_nodes=2",
    ),
    "trainer.devices=[] trainer.accelerator=gpu": (
        "names no device",
        "trainer.devices=[0] trainer.accelerator=gpu",
    ),
    "trainer.devices=[0,1] trainer.accelerator=cpu": (
        "no indices",
        "trainer.devices=2 trainer.accelerator=cpu",
    ),
    "trainer.devices=2 trainer.accelerator=mps": ("mps has one device", "trainer.accelerator=mps"),
    "trainer=fsdp trainer.precision=16-mixed": (
        "no gradient scaler",
        "trainer=fsdp trainer.precision=bf16-mixed",
    ),
    "trainer.max_steps=0": ("no step would be made", "trainer.max_steps=1"),
    "trainer.gradient_clip_val=0": ("null switches clipping off", "trainer.gradient_clip_val=0.1"),
    "monitor=val/iou": ("classification logs no such metric", "monitor=val/ece monitor_mode=min"),
    "monitor=val/acc5 data.num_classes=5": ("logs no such metric", "monitor=val/acc5 data.num_classes=6"),
    "monitor=val/loss": ("take monitor_mode=min", "monitor=val/loss monitor_mode=min"),
    "callbacks.best.monitor=val/acc": ("legal: val/acc1", "callbacks.best.monitor=val/ece"),
    "+callbacks.x._target_=os.system": ("known package", "+callbacks.x._target_=torch.nn.Identity"),
    "+model.kwargs.a={b:[{_target_:torchx.y}]}": (
        "model.kwargs.a.b.0._target_",
        "+model.kwargs.a={b:[{_target_:torch.y}]}",
    ),
    "resume=/no/such/run": ("no such file or folder", "resume=auto"),
    "resume=.": ("holds no checkpoint", "resume=null"),
    "finetune.init_from=/no/such/run": ("no file or folder", "finetune.init_from=."),
    "finetune.init_from=latest": ("give a checkpoint file, a run folder", "finetune.init_from=."),
    "basis=rbf callbacks=grid finetune.init_from=.": (
        "take callbacks.grid.at_start=false",
        "basis=rbf callbacks=grid callbacks.grid.at_start=false finetune.init_from=.",
    ),
    "finetune.freeze=true": ("random weights", "finetune.freeze=true finetune.init_from=."),
    "finetune.degrees=[2] finetune.init_from=.": (
        "add finetune.freeze=true",
        "finetune.degrees=[2] finetune.init_from=. finetune.freeze=true",
    ),
    "finetune.base_rank=1 finetune.train_base=true finetune.init_from=. finetune.freeze=true": (
        "base weights that are not trained",
        "finetune.base_rank=1 finetune.init_from=. finetune.freeze=true",
    ),
}


def problems(line: str) -> tuple[Problem, ...]:
    try:
        parse_train(compose("train", line.split(), CONF), CHOICES)
    except ConfigError as error:
        return error.problems
    return ()


@pytest.mark.parametrize("line", CASES)
def test_what_cannot_be_is_refused_with_the_way_out(line: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    words, legal = CASES[line]
    (problem,) = problems(line)
    assert words in "\n".join(problem.lines())
    assert problem.fix
    assert problems(legal) == ()


def test_a_checkpoint_to_resume_from_may_be_a_file_a_folder_or_the_newest(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    for resume in (tmp_path, tmp_path / "checkpoints" / "last.ckpt", "auto"):
        assert problems(f"resume={resume}") == ()


def test_several_impossible_pairs_come_together() -> None:
    found = problems(
        "loss.name=dice trainer.gradient_clip_val=0 model=kat model.num_groups=7 trainer.max_steps=0"
    )
    assert [problem.keys[0] for problem in found] == [
        "loss.name",
        "model.num_groups",
        "trainer.max_steps",
        "trainer.gradient_clip_val",
    ]


@pytest.mark.parametrize(
    ("line", "accepted"),
    [
        ("basis.degree=4", True),
        ("basis.degree=4.0", False),
        ("basis.degree=true", False),
        ("basis.degree=null", True),
        ("basis=bspline basis.grid_range=[-2,2]", True),
        ("basis=bspline basis.grid_range=[a,b]", False),
        ("basis=bspline basis.grid_range=3", False),
        ("basis=jacobi basis.alpha=2", True),
        ("basis=jacobi basis.alpha=x", False),
        ("basis=wavelet basis.kind=3", False),
        ("+basis.grid_size=3", False),
        ("basis.name=nothing", False),
    ],
)
def test_keys_of_a_basis_are_those_of_its_file_and_of_the_same_type(line: str, accepted: bool) -> None:
    assert (problems(line) == ()) is accepted
    if not accepted:
        assert problems(line)[0].keys[0].startswith("basis.")
