"""Which tar files are shards of which split: by their names, or by patterns."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

__all__ = ["WHOLE", "expand_braces", "find_shards", "has_shards"]

WHOLE: Final = "whole"
"""Split of shards whose names speak of none."""
_WORDS: Final = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_TAR = re.compile(r".+\.(tar|tgz|tar\.(gz|bz2|xz|zst|lz4))", re.IGNORECASE)
_NUMBERED = re.compile(r"(?P<prefix>.*?)(?P<number>\d+)(-of-(?P<total>\d+))?")
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def has_shards(root: Path) -> bool:
    """Whether a folder, or one of a split in it, holds tar files."""
    return any(True for _ in _tar_files(root))


def find_shards(root: Path, patterns: Mapping[str, str | None]) -> tuple[dict[str, list[Path]], list[str]]:
    """The shards of each split.

    Without patterns the word train, val (valid, validation) or test in the name of a file, or of the folder
    it is in, tells the split; if no name has one, all are of the split `WHOLE`.

    Args:
        root: Folder of the data set.
        patterns: For each split, file names below the root: ranges {0000..1023}, choices {a,b} and
            wildcards; null: none is given.

    Returns:
        Sorted files by split, and what is wrong: a split that names do not tell, a gap in the numbers.
    """
    given = {split: pattern for split, pattern in patterns.items() if pattern}
    if given:
        return _by_pattern(root, given)
    splits: dict[str, list[Path]] = defaultdict(list)
    for path in _tar_files(root):
        splits[_split_of(path, root)].append(path)
    problems = []
    if len(splits) > 1 and WHOLE in splits:
        named = " and ".join(sorted(splits.keys() - {WHOLE}))
        problems += [
            f"{path}: name tells no split, but others are {named}; name it train-*.tar, val-*.tar or "
            "test-*.tar, or set data.train_shards and so on"
            for path in splits.pop(WHOLE)
        ]
    for paths in splits.values():
        problems += _gaps(paths)
    return dict(splits), problems


def expand_braces(pattern: str) -> list[str]:
    """imagenet-train-{0000..1023}.tar to 1024 names; {a,b} to two; all braces of the pattern.

    Numbers have as many digits as the first one is written with.

    Raises:
        ValueError: If a brace holds neither a range nor a list.
    """
    found = _BRACES.search(pattern)
    if found is None:
        return [pattern]
    inside = found.group(1)
    if numbers := _RANGE.fullmatch(inside):
        first, last = numbers.groups()
        choices = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    elif "," in inside:
        choices = inside.split(",")
    else:
        raise ValueError(f"{{{inside}}} is neither a range such as {{0000..1023}} nor a list such as {{a,b}}")
    head, tail = pattern[: found.start()], pattern[found.end() :]
    return [head + choice + rest for choice in choices for rest in expand_braces(tail)]


def _by_pattern(root: Path, patterns: Mapping[str, str]) -> tuple[dict[str, list[Path]], list[str]]:
    splits: dict[str, list[Path]] = {}
    problems: list[str] = []
    for split, pattern in patterns.items():
        key = f"data.{split}_shards={pattern}"
        try:
            names = expand_braces(pattern)
        except ValueError as error:
            problems.append(f"{key}: {error}")
            continue
        found: list[Path] = []
        missing: list[str] = []
        for name in names:
            matching = sorted(root.glob(name)) if re.search(r"[*?\[]", name) else [root / name]
            there = [path for path in matching if path.is_file()]
            found += there
            missing += [] if there else [name]
        if missing:
            problems.append(f"{key}: {_listed(missing)} missing in {root}")
        splits[split] = list(dict.fromkeys(found))
    return splits, problems


def _tar_files(root: Path) -> Iterator[Path]:
    inner = (path for path in sorted(root.iterdir()) if path.name.lower() in _WORDS and path.is_dir())
    for folder in (root, *inner):
        for path in sorted(folder.iterdir()):
            if not path.name.startswith(".") and _TAR.fullmatch(path.name) and path.is_file():
                yield path


def _split_of(path: Path, root: Path) -> str:
    if path.parent != root:
        return _WORDS[path.parent.name.lower()]
    words = re.split(r"[^a-z]+", path.name.lower())
    return next((_WORDS[word] for word in words if word in _WORDS), WHOLE)


def _gaps(paths: Iterable[Path]) -> Iterator[str]:
    """Complaints about numbers left out between the first and the last, or of the total that names state."""
    series: dict[tuple[Path, str, str], list[re.Match[str]]] = defaultdict(list)
    for path in paths:
        name, dot, ending = path.name.partition(".")
        if numbered := _NUMBERED.fullmatch(name):
            tail = f"-of-{numbered['total']}" if numbered["total"] else ""
            series[path.parent, numbered["prefix"], f"{tail}{dot}{ending}"].append(numbered)
    for (folder, prefix, suffix), members in series.items():
        there = {int(member["number"]) for member in members}
        expected = range(min(there), max(there) + 1)
        if total := int(members[0]["total"] or 0):
            first = 1 if total in there else 0
            expected = range(first, first + total)
        if absent := [number for number in expected if number not in there]:
            digits = len(members[0]["number"])
            names = [f"{prefix}{number:0{digits}}{suffix}" for number in absent]
            yield f"{folder}: {_listed(names)} missing in the sequence; copy the shards anew"


def _listed(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"{names[0]} is"
    return f"{names[0]} and {len(names) - 1} more are"
