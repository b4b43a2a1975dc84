"""Assignment of tar files to splits, by their names or by patterns."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

__all__ = ["UNSPLIT", "expand_braces", "find_shards", "has_shards"]

UNSPLIT: Final = "whole"
"""Split of shards whose names hold no split."""
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
    """Return True if a folder, or the folder of a split in it, holds tar files."""
    return any(True for _ in _tar_files(root))


def find_shards(root: Path, patterns: Mapping[str, str | None]) -> tuple[dict[str, list[Path]], list[str]]:
    """Return the shards of each split.

    Without patterns, the word train, val (valid, validation) or test in the name of a file or of its folder
    is the split; if no name has one, all files are in the split `UNSPLIT`.

    Args:
        root: Folder of the data set.
        patterns: File names below the root for each split, with ranges {0000..1023}, choices {a,b} and
            wildcards;
            null: no pattern.

    Returns:
        Sorted files by split, and the problems: names without a split beside names with one, gaps in numbers.
    """
    given = {split: pattern for split, pattern in patterns.items() if pattern}
    if given:
        return _by_pattern(root, given)
    splits: dict[str, list[Path]] = defaultdict(list)
    for path in _tar_files(root):
        splits[_detect_split(path, root)].append(path)
    problems = []
    if len(splits) > 1 and UNSPLIT in splits:
        named = " and ".join(sorted(splits.keys() - {UNSPLIT}))
        problems += [
            f"{path}: the name holds no split, but others are {named}; name it train-*.tar, val-*.tar or "
            "test-*.tar, or set data.train_shards and so on"
            for path in splits.pop(UNSPLIT)
        ]
    for paths in splits.values():
        problems += _gaps(paths)
    return dict(splits), problems


def expand_braces(pattern: str) -> list[str]:
    """Return the names of a pattern with braces: 1024 for x-{0000..1023}.tar, two for {a,b}.

    Numbers have as many digits as the first number of their range.

    Raises:
        ValueError: If braces hold neither a range nor a list.
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
            problems.append(f"{key}: {_summarize(missing)} missing in {root}")
        splits[split] = list(dict.fromkeys(found))
    return splits, problems


def _tar_files(root: Path) -> Iterator[Path]:
    inner = (path for path in sorted(root.iterdir()) if path.name.lower() in _WORDS and path.is_dir())
    for folder in (root, *inner):
        for path in sorted(folder.iterdir()):
            if not path.name.startswith(".") and _TAR.fullmatch(path.name) and path.is_file():
                yield path


def _detect_split(path: Path, root: Path) -> str:
    if path.parent != root:
        return _WORDS[path.parent.name.lower()]
    words = re.split(r"[^a-z]+", path.name.lower())
    return next((_WORDS[word] for word in words if word in _WORDS), UNSPLIT)


def _gaps(paths: Iterable[Path]) -> Iterator[str]:
    """Yield the problems of numbers that are missing between the first and the last, or in a stated total."""
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
            yield f"{folder}: {_summarize(names)} missing in the sequence; copy the shards again"


def _summarize(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"{names[0]} is"
    return f"{names[0]} and {len(names) - 1} more are"
