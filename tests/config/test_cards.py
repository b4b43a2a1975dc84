"""Cards of experiments, lists of tables, and a help that fits one screen."""

from pathlib import Path

import pytest

from kanvision.config import ConfigGroups, check_command_line
from kanvision.config.cards import card, scores, tables


def answer(conf: Path, capsys: pytest.CaptureFixture[str], *argv: str, status: int = 0) -> str:
    """Return what a command line prints that only asks for words."""
    with pytest.raises(SystemExit) as stopped:
        check_command_line("train", argv, conf)
    assert stopped.value.code == status
    captured = capsys.readouterr()
    return captured.err if status else captured.out


@pytest.mark.parametrize("argv", [["--info"], ["--help"], ["-h"]])
def test_the_card_of_a_row_is_printed(argv: list[str], conf: Path, capsys) -> None:
    text = answer(conf, capsys, "experiment=kat/imagenet_tiny", *argv)
    expected = [
        "experiment=kat/imagenet_tiny",
        "command     python train.py experiment=kat/imagenet_tiny trainer=ddp data.root=<ImageNet folder>",
        "hardware    8 GPUs (published: 8 x A5000), 128 images each",
        "cost        300 epochs of batch 1024, one to two days by the authors' account",
        "parameters  5,718,328",
        "published   acc1 74.6",
        "protocol    EMA weights, 50,000 validation images",
        "our runs    none",
        "expected    acc1 74.6, as published",
        "source      Yang and Wang 2024, arXiv 2409.10594, table 5",
        "settings    model=kat data=imagenet recipe=kat_imagenet model.size=tiny",
        "table       conf/tables/kat_imagenet.yaml",
    ]
    assert [line for line in expected if line not in text] == []


def test_a_card_tells_several_runs_our_own_and_remarks(choices: ConfigGroups) -> None:
    rows = choices.experiments
    study = card(rows["karat/cifar10_tiny_simplex"])
    assert "published   acc1 G3B: 41.99, G3U: 40.85" in study
    assert "runs        model.share=blockwise,universal" in study
    assert "experiment=karat/cifar10_tiny_simplex -m trainer=gpu" in study
    own = card(rows["kat/cifar_micro"])
    assert "expected    that of docs/evidence.md, within its 95 % interval" in own
    assert "published   none" in own
    doubted = card(rows["convkan/cifar10_kacn_4_in"])
    assert "as published but for the remarks" in doubted
    assert "remark      the published run is at chance" in doubted
    assert "expected    no number found" in card(rows["kan_unet/cvc_bottleneck"])


def test_every_row_has_a_card_with_a_command_and_a_score(choices: ConfigGroups) -> None:
    for name, row in choices.experiments.items():
        fields = {line[2:14].strip() for line in card(row).splitlines()[1:]}
        wanted = {"title", "command", "hardware", "published", "expected", "source", "settings", "table"}
        assert wanted <= fields, name


def test_numbers_keep_their_spread_and_order() -> None:
    assert scores({"acc1": 1.5, "acc5": "2.0 ± 0.5"}) == "acc1 1.5; acc5 2.0 ± 0.5"
    assert scores({"acc1": {"a": [1.0, 2.0], "b": 3.0}}) == "acc1 a: 1.0 / 2.0, b: 3.0"


def test_a_table_lists_its_rows(conf: Path, choices: ConfigGroups, capsys) -> None:
    text = answer(conf, capsys, "--help", "experiment=ukan_busi")
    rows = tables(choices.experiments.values())["ukan_busi"]
    assert len(rows) == 8
    assert [row.name for row in rows if row.name not in text] == []
    assert "iou_batch 63.38 ± 2.83" in text
    assert "--info" in text


def test_info_may_stand_before_the_row(conf: Path, capsys) -> None:
    assert "published   acc1 74.6" in answer(conf, capsys, "--info", "experiment=kat/imagenet_tiny", "seed=1")
    # of other command lines it is Hydra's
    assert check_command_line("train", ["--info", "model=kat"], conf).argv == ["--info=all", "model=kat"]


def test_several_rows_have_several_cards(conf: Path, capsys) -> None:
    text = answer(conf, capsys, "experiment=kat/imagenet_tiny,kat/imagenet_small", "--info", "-m")
    assert text.count("published   acc1") == 2


@pytest.mark.parametrize("argv", [["--info"], ["--help"]])
def test_a_name_that_does_not_exist_is_refused_with_the_closest(argv: list[str], conf: Path, capsys) -> None:
    text = answer(conf, capsys, "experiment=kat/imagenet_tny", *argv, status=2)
    assert "did you mean experiment=kat/imagenet_tiny" in text
    assert "tables: bases_digits, convkan_bn, " in text


def test_a_malformed_table_is_refused_before_a_run(conf: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "kat_mine.yaml").write_text("title: t\n", "utf-8")
    flags = ["--config-dir", str(tmp_path), "experiment=kat/imagenet_tiny"]
    for argv in (flags, [*flags, "--info"], [*flags, "--help"]):
        text = answer(conf, capsys, *argv, status=2)
        assert "tables/kat_mine.yaml: rows" in text
        assert "field required" in text


def test_the_help_is_one_screen_and_names_every_table(conf: Path, choices: ConfigGroups, capsys) -> None:
    text = answer(conf, capsys, "--help")
    assert len(text.splitlines()) <= 80
    for name, rows in tables(choices.experiments.values()).items():
        paper = rows[0].name.partition("/")[0]
        assert f"{name.removeprefix(f'{paper}_')} ({len(rows)})" in " ".join(text.split())
