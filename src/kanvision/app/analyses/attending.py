"""Which attentions of a network an analysis looks at."""

from __future__ import annotations

from collections.abc import Sequence

from kanvision.analysis.attention import Attention, attentions
from kanvision.config import ConfigError
from kanvision.config.problems import conflict

from .study import Study

__all__ = ["attended", "chosen"]


def attended(study: Study) -> list[Attention]:
    """The attentions of the network, with the matrices of the first image of the split."""
    (batch,) = study.batches([0])
    return attentions(study.task.model, batch["image"])


def chosen(study: Study, key: str, blocks: Sequence[int], found: Sequence[Attention]) -> list[str]:
    """Paths of the attentions that the user wants, each once.

    Args:
        study: What is looked at.
        key: Dotted key of `blocks`, for the message.
        blocks: Numbers of attentions, from the end if negative.
        found: All that there are.

    Raises:
        ConfigError: The network does not attend, or there are not so many attentions.
    """
    if not found:
        name = study.run.model.name
        why = f"{name} has no attention between tokens, so there is no matrix to look at"
        fix = "networks with attention: model=vit, kat, karat, and transformers of timm (deit, convit, swin)"
        raise ConfigError([conflict(study.cfg, ["analysis"], why, fix)])
    if wrong := [block for block in blocks if not -len(found) <= block < len(found)]:
        why = f"there is no attention number {', '.join(map(str, wrong))}"
        legal = ", ".join(f"{index} ({each.name})" for index, each in enumerate(found))
        raise ConfigError([conflict(study.cfg, [key], why, f"legal: {legal}")])
    return list(dict.fromkeys(found[block].name for block in blocks))
