"""Table of rules: what a rule reads, and the message that it makes."""

import pytest

from kanvision.config import EvalConfig, TrainConfig
from kanvision.config.checks.rules import MISSING, Rule, value_at
from kanvision.config.checks.unused_settings import CONFLICTS, UNUSED
from kanvision.config.schema.keys import keys_by_name
from kanvision.config.validate import EVAL_RULES, TRAIN_RULES

CONFIG = EvalConfig(ckpt="a")


@pytest.mark.parametrize(
    ("rules", "root"),
    [((*TRAIN_RULES, *UNUSED, *CONFLICTS), TrainConfig), (EVAL_RULES, EvalConfig)],
    ids=["train", "eval"],
)
def test_rules_read_keys_of_the_schema(rules: tuple[Rule, ...], root: type) -> None:
    """Catches a misspelled or renamed key, with which a rule would never apply."""
    legal = {"*", *keys_by_name(root)}
    read = {key for rule in rules for key in (rule.reads or rule.keys).split()}
    shown = {key for rule in rules for key in rule.keys.split() if "{" not in key}
    assert (read | shown) - legal == set()


def test_a_rule_names_values_and_reasons() -> None:
    rule = Rule(
        "split {other}",
        lambda split, device: [{"other": "mode"}, {"keys": ["analysis"]}],
        "{split} on {accelerator}",
        "{{}}",
        reads="split trainer.accelerator",
    )
    first, second = rule.problems(CONFIG)
    assert (first.keys, first.given) == (("split", "mode"), ("split=test", "mode=test"))
    assert (first.why, first.fix) == ("test on auto", "{}")
    assert (second.keys, second.given) == (("analysis",), ("analysis=null",))


def test_a_rule_about_a_missing_key_does_not_apply() -> None:
    assert Rule("data.palette", lambda palette: True, "wrong").problems(CONFIG) == []
    assert Rule("ckpt", lambda ckpt: ckpt == "b", "wrong").problems(CONFIG) == []
    assert len(Rule("ckpt", lambda ckpt: ckpt == "a", "wrong").problems(CONFIG)) == 1


def test_values_inside_of_plain_sections_are_found() -> None:
    callbacks = {"best.one": {"monitor": "val/acc1", "list": [{"()": "x"}]}}
    assert value_at(callbacks, "best.one.monitor") == "val/acc1"
    assert value_at(callbacks, "best.one.list.0.()") == "x"
    assert value_at(callbacks, "best.two") is MISSING
