"""Recorded changes of structure: done again on a new network, and refused where they do not fit."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from kanvision.layers.structure import (
    change_structure,
    restore_structure,
    structural_change,
    structure_changes,
)


@structural_change("widen_for_test")
def widen(model: nn.Module, layer: str, *, by: int) -> None:
    old = model.get_submodule(layer)
    assert isinstance(old, nn.Linear)
    if by < 1:
        raise ValueError(f"by={by} must be at least 1")
    model.set_submodule(layer, nn.Linear(old.in_features, old.out_features + by))


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.Linear(2, 1)))


def test_a_new_network_gets_the_recorded_structure() -> None:
    changed = build()
    change_structure(changed, "widen_for_test", "1.0", by=1)
    change_structure(changed, "widen_for_test", "1.0", by=3)
    change_structure(changed, "widen_for_test", "0", by=2)
    fresh = build()
    with pytest.raises(RuntimeError, match="size mismatch"):
        fresh.load_state_dict(changed.state_dict())
    restore_structure(fresh, structure_changes(changed))
    fresh.load_state_dict(changed.state_dict())
    assert structure_changes(fresh) == structure_changes(changed) != structure_changes(build()) == []
    restore_structure(fresh, structure_changes(changed))  # nothing is left to do
    assert fresh[1][0].out_features == 5


def test_the_record_travels_with_copies_and_is_safe_to_load(tmp_path: Any) -> None:
    changed = build()
    change_structure(changed, "widen_for_test", "0", by=1)
    twin = copy.deepcopy(changed)
    change_structure(twin, "widen_for_test", "0", by=1)
    assert [len(structure_changes(model)) for model in (changed, twin)] == [1, 2]
    structure_changes(changed)[0]["arguments"]["by"] = 7
    assert structure_changes(changed)[0]["arguments"] == {"by": 1}
    torch.save(structure_changes(twin), tmp_path / "structure")
    assert torch.load(tmp_path / "structure", weights_only=True) == structure_changes(twin)


def test_a_longer_or_another_history_is_refused() -> None:
    changed, other = build(), build()
    change_structure(changed, "widen_for_test", "0", by=1)
    change_structure(other, "widen_for_test", "0", by=2)
    for record in ([], structure_changes(other)):
        with pytest.raises(ValueError, match="new network"):
            restore_structure(changed, record)


@pytest.mark.parametrize(
    ("kind", "layer", "arguments", "message"),
    [
        ("prune_everything", "0", {}, "legal kinds: .*widen_for_test"),
        ("widen_for_test", "7", {"by": 1}, "layer='7' names no module of Sequential"),
        ("widen_for_test", "0", {"by": torch.ones(1)}, "by is a Tensor"),
        ("widen_for_test", "0", {"by": [1, (2,)]}, "by is a tuple"),
        ("widen_for_test", "0", {"by": 0}, "by=0 must be"),
    ],
)
def test_what_does_not_fit_is_refused_and_not_recorded(
    kind: str, layer: str, arguments: dict[str, Any], message: str
) -> None:
    model = build()
    with pytest.raises(ValueError, match=message):
        change_structure(model, kind, layer, **arguments)
    assert structure_changes(model) == []


def test_a_kind_is_registered_once() -> None:
    with pytest.raises(ValueError, match="already"):
        structural_change("widen_for_test")(widen)
