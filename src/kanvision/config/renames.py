"""Old names of keys, values and classes: each still works, and the new name is printed.

An old name may come from the command line or from a file: an experiment of the user, the config.yaml of a
run, a checkpoint. All other modules have new names only.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from .errors import is_global_rank_zero
from .schema.keys import format_yaml

__all__ = [
    "CLASSES",
    "KEYS",
    "METRICS",
    "VALUES",
    "print_old_names",
    "rename_file",
    "rename_override",
    "rename_overrides",
    "rename_record",
    "rename_settings",
]

KEYS: dict[str, str] = {
    "analyse": "analyze",
    "analyze.attention.pictures": "num_pictures",
    "analyze.spectra.of": "matrices",
    "analyze.spectra.largest": "max_size",
    "analyze.landscape.points": "num_points",
    "analyze.landscape.vectors": "include_vectors",
    "analyze.hessian.runs": "num_runs",
    "analyze.hessian.steps": "num_steps",
    "analyze.hessian.trace_vectors": "num_trace_vectors",
    "analyze.hessian.top": "num_eigenvalues",
    "analyze.hessian.width": "kernel_width",
    "analyze.transfer.neighbours": "num_neighbors",
    "explain.pictures": "num_pictures",
    "explain.steps": "num_steps",
    "check.rows": "num_rows",
    "data.faults": "on_bad_sample",
    "data.max_faults": "max_bad_samples",
    "basis.normalise": "normalize",
    "model.kan": "plain",
    "model.checkpoint": "grad_checkpointing",
    "model.layer": "preset",
    "model.pointwise_layer": "pointwise_preset",
    "model.kwargs.layer": "preset",
    "model.kwargs.pointwise_layer": "pointwise_preset",
    "model.layer_drop_place": "layer_drop_position",
    "model.kwargs.layer_drop_place": "layer_drop_position",
    "callbacks.finite_guard": "nonfinite_guard",
    "callbacks.sample_images": "prediction_images",
}
"""Old dotted key, its sections with new names -> new name in the same section."""
METRICS: dict[str, str] = {f"{part}/objective": f"{part}/training_loss" for part in ("val", "test")}
"""Old name of a logged metric -> new name."""
RECIPES: dict[str, str] = {
    "convkan_cifar100_regularisation": "convkan_cifar100_regularization",
    "karat_imagenet_deit_unlisted": "karat_imagenet_with_deit_extras",
    "karat_cifar10_deit_unlisted": "karat_cifar10_with_deit_extras",
    "karat_cifar100_deit_unlisted": "karat_cifar100_with_deit_extras",
}
"""Old name of a recipe -> new name."""
NEGATED = frozenset({"model.kan"})
"""Old keys whose true means false in the new key."""
VALUES: dict[str, dict[str, dict[str, Any]]] = {
    "mode": {"analyse": {"mode": "analyze"}},
    **{
        f"{section}.{key}": {"conv": {key: None, "plain": plain}}
        for section in ("model", "model.kwargs")
        for key, plain in (("preset", True), ("pointwise_preset", "pointwise"))
    },
    "recipe": {old: {"recipe": new} for old, new in RECIPES.items()},
    "recipe.name": {old: {"name": new} for old, new in RECIPES.items()},
    "monitor": {old: {"monitor": new} for old, new in METRICS.items()},
    "*.monitor": {old: {"monitor": new} for old, new in METRICS.items()},
}
"""Key (`*` is any section) -> old value -> the equivalent settings of the same section."""
CLASSES: dict[str, str] = {
    "kanvision.callbacks.DataFaults": "kanvision.callbacks.BadSampleCounter",
    "kanvision.callbacks.FiniteGuard": "kanvision.callbacks.NonFiniteGuard",
    "kanvision.callbacks.GridCare": "kanvision.callbacks.GridUpdate",
    "kanvision.callbacks.SampleImages": "kanvision.callbacks.PredictionImages",
}
"""Old name of a class in a `_target_` -> new name."""

_PRINTED: set[str] = set()
_BOOLS = {
    **dict.fromkeys(("true", "yes", "on", "t", "y", "1"), True),
    **dict.fromkeys(("false", "no", "off", "f", "n", "0"), False),
}
"""Spellings of booleans that the schema accepts."""
_NAME_OF_BOOL = re.compile(rf"\b({'|'.join(_BOOLS)})\b", re.IGNORECASE)
_OVERRIDE = re.compile(r"(\+\+|\+|~)?([\w./@-]+)(?:=(.*))?", re.DOTALL)


def rename_override(override: str) -> tuple[list[str], str | None]:
    """Return an override of the command line with new names, and a note if it had an old name.

    Args:
        override: Override, such as `data.faults=skip`, `~callbacks.finite_guard` or `mode=analyse`.

    Returns:
        Overrides with the same meaning, usually one; and "old -> new", or None if no name is old.
    """
    match = _OVERRIDE.fullmatch(override)
    if match is None:
        return [override], None
    sign, key, value = match[1] or "", _rename_key(match[2]), match[3]
    if match[2] in NEGATED and value is not None:
        value = _NAME_OF_BOOL.sub(lambda name: format_yaml(_negate(name[0])), value)
    section = key.rpartition(".")[0] + "." if "." in key else ""
    if value is None or sign == "~":
        words = [sign + key + ("" if value is None else f"={value}")]
    else:
        words = [
            f"{sign}{section}{name}={format_yaml(item)}"
            for name, item in _replacement(key, CLASSES.get(value, value)).items()
        ]
    return words, None if words == [override] else f"{override} -> {' '.join(words)}"


def rename_overrides(overrides: Iterable[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Return the new overrides for each one with an old name, and a note for each of these."""
    notes = {override: rename_override(override) for override in overrides}
    renamed = {override: words for override, (words, note) in notes.items() if note is not None}
    for words in renamed.values():
        for word in [word for word in words[1:] if word.endswith("plain=pointwise")]:
            # two old presets that are plain make the whole network plain
            if any(word.replace("pointwise", "true") in others[1:] for others in renamed.values()):
                words.remove(word)
    return renamed, [note for _, note in notes.values() if note is not None]


def rename_settings(values: Mapping[str, Any], section: str = "") -> tuple[dict[str, Any], list[str]]:
    """Return a configuration with new names, and a note "old -> new" for each old name in it.

    An old key takes precedence over the new key beside it, which then holds a default, and an old value over
    the other keys that it stands for.

    Args:
        values: The configuration, or a section of it.
        section: Dotted name of that section, with a dot at its end; empty for the whole.
    """
    renamed: dict[str, Any] = {}
    notes: list[str] = []
    side_effects: dict[str, Any] = {}
    old_last = sorted(values.items(), key=lambda item: f"{section}{item[0]}" in KEYS)
    for name, value in old_last:
        if not isinstance(name, str):
            renamed[name] = value
            continue
        today = KEYS.get(f"{section}{name}", name)
        if isinstance(value, Mapping):
            content, inner = rename_settings(value, f"{section}{today}.")
            # the section of the new name has the keys that a file under the old name leaves out
            beside = renamed.get(today) if name != today else None
            replaced: dict[str, Any] = {today: _merge(beside, content)}
            notes += inner
        else:
            item = CLASSES.get(value, value) if isinstance(value, str) else value
            if f"{section}{name}" in NEGATED:
                item = _negate(item)
            replaced = _replacement(f"{section}{today}", item)
        renamed |= replaced
        if len(replaced) > 1:
            # plain=true of an old preset includes plain=pointwise of another
            side_effects |= {key: item for key, item in replaced.items() if side_effects.get(key) is not True}
        is_old = name not in replaced or (not isinstance(value, Mapping) and replaced[name] != value)
        if is_old:
            settings = " ".join(f"{section}{key}={format_yaml(item)}" for key, item in replaced.items())
            is_alias = [*replaced] == [today] and name != today and f"{section}{name}" not in NEGATED
            notes.append(
                f"{section}{name} -> {section}{today}"
                if is_alias
                else f"{section}{name}={format_yaml(value)} -> {settings}"
            )
    return renamed | side_effects, notes


def _merge(section: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section with the values of another one in it, at any depth."""
    merged = dict(section) if isinstance(section, Mapping) else {}
    for name, value in changes.items():
        merged[name] = _merge(merged.get(name), value) if isinstance(value, Mapping) else value
    return merged


def rename_file(content: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return a file of a configuration with new names where Hydra reads them, and a note for each old name.

    These are the choices of its defaults list, and the overrides in `hydra.sweeper.params`.
    """
    renamed, notes = dict(content), []
    if isinstance(entries := content.get("defaults"), list):
        renamed["defaults"] = []
        for entry in entries:
            choices = dict(entry) if isinstance(entry, Mapping) else {}
            for group, choice in choices.items():
                choices[group] = _rename_choice(group, choice)
                if choices[group] != choice:
                    notes.append(f"{group}: {choice} -> {choices[group]}")
            renamed["defaults"].append(choices or entry)
    hydra = content.get("hydra")
    sweeper = hydra.get("sweeper") if isinstance(hydra, Mapping) else None
    params = sweeper.get("params") if isinstance(sweeper, Mapping) else None
    if isinstance(hydra, Mapping) and isinstance(sweeper, Mapping) and isinstance(params, Mapping):
        typed = [f"{key}={value}" for key, value in params.items()]
        new_words, old_names = rename_overrides(typed)
        notes += old_names
        words = [word.partition("=") for text in typed for word in new_words.get(text, [text])]
        new = {key: value for key, _, value in words} if old_names else params
        renamed["hydra"] = {**hydra, "sweeper": {**sweeper, "params": new}}
    return renamed, notes


def _rename_choice(group: Any, choice: Any) -> Any:
    """Return the new name of a choice in a defaults list, such as `override /recipe: <choice>`."""
    words = str(group).split()
    is_recipe = bool(words) and words[-1].strip("/") == "recipe"
    return RECIPES.get(choice, choice) if is_recipe and isinstance(choice, str) else choice


def rename_record(node: Any) -> Any:
    """Return a stored record with today's names of metrics and classes in its keys.

    A record is what a run writes to metrics.json, or the states of callbacks in a checkpoint.
    """
    if isinstance(node, Mapping):
        return {_rename_stored(key): rename_record(value) for key, value in node.items()}
    return [rename_record(item) for item in node] if isinstance(node, list) else node


def _rename_stored(key: Any) -> Any:
    if isinstance(key, str):
        for old, today in METRICS.items():
            key = key.replace(old, today)
        for old, today in CLASSES.items():
            key = re.sub(rf"^{old.rpartition('.')[2]}\b", today.rpartition(".")[2], key)
    return key


def print_old_names(notes: Iterable[str], where: str = "") -> None:
    """Print one line for each old name, once in a process and on rank 0 only."""
    for note in notes:
        if note not in _PRINTED and is_global_rank_zero():
            print(f"Renamed{where}: {note}", file=sys.stderr)
        _PRINTED.add(note)


def _replacement(key: str, value: Any) -> dict[str, Any]:
    """Return the settings of the same section that mean what `key=value` means, by their last names.

    In a list of values (`recipe=a,b`), each old value that has one new value is replaced.
    """
    name = key.rpartition(".")[2]
    today = VALUES.get(key) or VALUES.get(f"*.{name}")
    if today is None or not isinstance(value, str):
        return {name: value}
    if replaced := today.get(value.strip("'\"")):
        return replaced
    single = {old: settings[name] for old, settings in today.items() if [*settings] == [name]}
    return {name: ",".join(single.get(item, item) for item in value.split(","))}


def _negate(value: Any) -> Any:
    """Return a boolean in any spelling negated, or a list with each of its booleans negated."""
    if isinstance(value, list | tuple):
        return [_negate(item) for item in value]
    found = _BOOLS.get(str(value).lower())
    return value if found is None else not found


def _rename_key(key: str) -> str:
    """Return the new name of a dotted key."""
    section = ""
    for name in key.split("."):
        section += f"{'.' if section else ''}{KEYS.get(f'{section}.{name}' if section else name, name)}"
    return section
