"""What is wrong with the overrides of a command line, all of it at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kanvision.config.errors import Problem
from kanvision.config.groups import ConfigGroups
from kanvision.config.keys import closest, keys_by_name, with_its_section
from kanvision.config.schema.evaluation import CheckConfig
from kanvision.config.schema.root import EvalConfig, TrainConfig
from kanvision.config.targets import hydra_problems
from kanvision.config.validate import check, unknown_key

from .compose import REFUSALS, Composer, reason, without_hydra
from .quoting import as_text, is_text, shell_word
from .sweeps import ParsedOverride, combinations, last_of_each, sweep_folder_problems, sweep_values

__all__ = ["as_hydra_reads", "override_problems"]

Root = type[TrainConfig] | type[EvalConfig] | type[CheckConfig]
# Hydra plugins that an optional part of the package brings.
EXTRAS = {"optuna": "sweep", "submitit": "slurm"}


def override_problems(
    root: Root,
    overrides: Sequence[str],
    composing: Composer,
    choices: ConfigGroups,
    multirun: bool = False,
) -> list[Problem]:
    """Everything that is wrong with a command line, in the order of its words.

    Args:
        root: Schema of the composed configuration.
        overrides: The words of the command line without Hydra's flags.
        composing: Composer of the main file.
        choices: The folder conf/.
        multirun: Several runs were asked for (`-m`).
    """
    judge = _Judge(root, composing, choices)
    typed = judge.parsed(overrides)
    multirun = multirun or any(word.key == "hydra.mode" and "MULTIRUN" in word.text.upper() for word in typed)
    typed = last_of_each(judge.without_searchpath(typed))
    if multirun:
        judge.add(*sweep_folder_problems(typed))
    sweeps = [judge.elements(word, multirun) for word in typed]
    for words in combinations([words for words in sweeps if words]):
        judge.one_run(words, multirun)
    return judge.in_order(overrides)


class _Judge:
    """Collects the problems of one command line."""

    def __init__(self, root: Root, composing: Composer, choices: ConfigGroups) -> None:
        self.root: type[Any] = root
        self.composing, self.choices = composing, choices
        self.problems: dict[tuple[Any, ...], Problem] = {}
        # Sections about which nothing can be said, because their choice was none.
        self.unsure: set[str] = set()

    def add(self, *problems: Problem) -> None:
        for problem in problems:
            self.problems.setdefault((problem.keys, problem.given, problem.why), problem)

    def in_order(self, overrides: Sequence[str]) -> list[Problem]:
        """The problems in the order of the words they are about; those of files come last."""

        def position(problem: Problem) -> int:
            positions = [
                i for i, text in enumerate(overrides) if any(text in given for given in problem.given)
            ]
            keys = [
                i for i, text in enumerate(overrides) if text.partition("=")[0].lstrip("+~") in problem.keys
            ]
            return min([*positions, *keys], default=len(overrides))

        return sorted(self.problems.values(), key=position)

    # --- words --------------------------------------------------------------------------------------------

    def parsed(self, overrides: Iterable[str]) -> list[ParsedOverride]:
        found = []
        for text in overrides:
            try:
                found.append(self.read(text))
            except REFUSALS as error:
                self.add(_grammar_problem(text, error))
        return found

    def read(self, text: str) -> ParsedOverride:
        return ParsedOverride(text, self.composing.parse(as_hydra_reads(text, self.root)))

    def without_searchpath(self, typed: Sequence[ParsedOverride]) -> list[ParsedOverride]:
        """The words without the one that Hydra would follow before its section is judged."""
        for word in typed:
            if word.key == "hydra.searchpath":
                section = {"searchpath": [str(word.parsed.value())]}
                self.add(*(p.typed_as(word.text) for p in hydra_problems(section, [], [])))
        return [word for word in typed if word.key != "hydra.searchpath"]

    def elements(self, word: ParsedOverride, multirun: bool) -> list[ParsedOverride]:
        """The single overrides that a sweep stands for, those of illegal choices left out."""
        if word.is_sweep and not multirun:
            fix = f"python train.py -m {word.text}"
            if is_text(word.key, self.root):
                value = word.text.partition("=")[2]
                fix += f"\nif it is one text, quote it twice: {shell_word(word.key, value)}"
            self.add(word.problem("several values need several runs", fix))
        values = sweep_values(word, self.choices.of(word.key)) if word.is_sweep else []
        texts = (
            [f"{word.text.partition('=')[0]}={value}" for value in values] if word.is_sweep else [word.text]
        )
        if not texts:
            self.add(word.problem("matches nothing", self.choices.listing(word.key)))
        return [substitute for text in texts for substitute in self._judged_choice(self.read(text))]

    # --- choices ------------------------------------------------------------------------------------------

    def is_choice(self, word: ParsedOverride) -> bool:
        """Whether an override chooses a file; Hydra's own settings count too, as they are composed first."""
        return word.key in self.choices.groups or word.key.startswith(("hydra.", "hydra/")) or "/" in word.key

    def _judged_choice(self, word: ParsedOverride) -> list[ParsedOverride]:
        """The override itself if its choice exists, else the one that was probably meant."""
        group = word.key
        if group.startswith("hydra/"):
            return [word] if self._plugin_exists(word, group, str(word.parsed.value())) else []
        if group not in self.choices.groups:
            return [word]
        default = self.choices.defaults[group]
        if word.parsed.is_add() or word.parsed.is_force_add():
            self.add(word.problem(f"{group} is chosen without +", f"write {word.text.lstrip('+')}"))
            return []
        value: Any = word.parsed.value()
        if word.parsed.is_delete() and (default is None or "${" in default):
            return [word]
        names = value if isinstance(value, list) else [value]
        unknown = [str(name) for name in names if not self.choices.has(group, str(name))]
        if word.parsed.is_delete() or value is None:
            way_out = f"to take none write ~{group}; " if default is None or "${" in default else ""
            self.add(word.problem(f"{group} needs a choice", way_out + self.choices.listing(group)))
            return []
        if not unknown:
            overridden = [
                self._plugin_exists(word, other, choice)
                for name in names
                for other, choice in self.choices.overridden(group, str(name)).items()
                if other.startswith("hydra/")
            ]
            return [word] if all(overridden) else []
        near = closest(unknown[0], self.choices.of(group))
        guess = f"did you mean {group}={near[0]}?" if near else ""
        listed = self.choices.listing(group, near)
        self.add(word.problem(f"no such choice of {group}", "\n".join(filter(None, (guess, listed)))))
        self.unsure.add(group)
        if not near or default is None or "${" in default:
            return []  # files that reach into every section are not guessed
        return [self.read(f"{group}={near[0]}")]

    def _plugin_exists(self, word: ParsedOverride, group: str, choice: str) -> bool:
        legal = self.composing.plugin_choices(group)
        if choice in legal:
            return True
        extra = next((extra for name, extra in EXTRAS.items() if choice.startswith(name)), None)
        hint = f'pip install "kanvision[{extra}]"' if extra else f"legal: {', '.join(legal)}"
        self.add(
            word.problem(
                f"{group}={choice} is not installed" if extra else f"no such choice of {group}", hint
            )
        )
        return False

    # --- one run ------------------------------------------------------------------------------------------

    def one_run(self, words: Sequence[ParsedOverride], multirun: bool) -> None:
        """Compose, look at every key, check the whole."""
        chosen = self._composable([word for word in words if self.is_choice(word)], [])
        if chosen is None:
            return
        texts = [word.line for word in chosen]
        base = self.composing.compose(texts, [])
        wanted = [word for word in words if not self.is_choice(word)]
        wanted.extend(self._searched(base, multirun))
        sound = self._composable([word for word in wanted if self._exists(word, base)], texts)
        while sound is not None:
            cfg = self.composing.compose(texts, [word.parsed for word in sound])
            task = without_hydra(cfg)
            config, problems = check(task, self.root, self.choices)
            section: Any = OmegaConf.to_container(cfg.hydra, resolve=False)
            typed = [word.key for word in [*chosen, *sound]]
            problems += hydra_problems(section, typed, self.composing.searchpath)
            blamed = [word for word in sound if any(word.touches(problem.keys[0]) for problem in problems)]
            last = config is not None or not blamed
            for problem in problems:
                mine = [word for word in sound if any(word.touches(key) for key in problem.keys)]
                if mine if not last else not self._in_doubt(problem):
                    self.add(self._as_typed(problem, [*sound, *chosen], cfg))
            if last:
                return
            # What a wrong value hides comes to light without it.
            sound = [word for word in sound if word not in blamed]

    def _in_doubt(self, problem: Problem) -> bool:
        """Whether a problem may vanish once the mistakes found so far are mended."""
        bad = {key for other in self.problems.values() for key in other.keys}
        return any(key in bad or key.partition(".")[0] in self.unsure for key in problem.keys)

    def _composable(self, words: list[ParsedOverride], choices: Sequence[str]) -> list[ParsedOverride] | None:
        """The overrides that Hydra accepts; None if the files do not even compose without them."""

        def complaint(some: Sequence[ParsedOverride]) -> Exception | None:
            try:
                if choices:
                    self.composing.compose(choices, [word.parsed for word in some])
                elif all(map(self.is_choice, some)):
                    self.composing.compose([word.line for word in some], [])
                else:
                    self.composing.compose([], [word.parsed for word in some])
            except REFUSALS as error:
                return error
            return None

        if complaint(words) is None:
            return words
        if (error := complaint([])) is not None:
            self.add(Problem(("conf",), ("conf/",), f"the files do not compose: {reason(error)}"))
            return None
        accepted: list[ParsedOverride] = []
        for word in words:
            error = complaint([*accepted, word])
            if error is None:
                accepted.append(word)
            else:
                self.add(word.problem(reason(error)))
        return accepted

    def _searched(self, cfg: DictConfig, multirun: bool) -> list[ParsedOverride]:
        """The settings that a hyperparameter search would try, each at one of its values."""
        params = OmegaConf.select(cfg, "hydra.sweeper.params")
        if not params:
            return []
        chosen = cfg.get("hydra").runtime.choices
        groups = [group for group in ("hparams_search", "experiment") if chosen.get(group)]
        if not multirun and groups:
            given = f"{groups[0]}={chosen[groups[0]]}"
            self.add(Problem((groups[0],), (given,), "it is several runs", "add -m"))
        words = self.parsed(f"{key}={value}" for key, value in dict(params).items())
        return [self.elements(word, multirun=True)[0] for word in words]

    def _exists(self, word: ParsedOverride, cfg: DictConfig) -> bool:
        """Whether an override speaks of a key that there is."""
        present = dict(_flat(cfg))
        override, key = word.parsed, word.key
        if override.package is not None:
            groups = ", ".join(self.choices.groups)
            self.add(word.problem("@ belongs to groups, and this is none", f"groups: {groups}"))
            return False
        if override.is_force_add() or (key in present) != override.is_add():
            return True
        if override.is_add():
            if present[key] is None or isinstance(override.value(), dict | list):
                return True
            self.add(word.problem(f"{key} exists already", f"write {word.text.lstrip('+')}"))
            return False
        index = keys_by_name(self.root)
        parent = key.rpartition(".")[0]
        if key.partition(".")[0] in self.unsure and (key in index or key.startswith("basis.")):
            return False
        if any(parent == name or parent.startswith(f"{name}.") for name in self._open_sections()):
            near = closest(key, [name for name in present if name.startswith(f"{parent}.")], limit=3)
            guess = "\n".join(f"closest: {name}" for name in near)
            self.add(word.problem("unknown key", f"{guess}\nnew keys are added with +: +{word.text}"))
        else:
            tags = {"model": "model.family", "data": "data.name"} if self.root is not EvalConfig else {}
            chosen = {group: OmegaConf.select(cfg, tag) for group, tag in tags.items()}
            names = [name for name in present if not name.startswith("hydra")]
            self.add(unknown_key(key, self.root, chosen, names).typed_as(word.text))
        return False

    def _open_sections(self) -> list[str]:
        """Sections that take keys of the user's own."""
        return [name for name, keys in keys_by_name(self.root).items() if "of your own" in keys[0].expected]

    def _as_typed(self, problem: Problem, words: Sequence[ParsedOverride], cfg: DictConfig) -> Problem:
        """The problem in the words of the command line, or with the file that says so."""
        given = []
        for key, text in zip(problem.keys, problem.given, strict=True):
            typed = [word.text for word in words if word.touches(key)]
            group = [
                word.text for word in words if word.key == key.partition(".")[0] and self.is_choice(word)
            ]
            source = self.choices.source(dict(cfg.hydra.runtime.choices), key)
            is_file = source is not None and source.parent.name != key.partition(".")[0]
            if typed and typed != group:
                given.append(" ".join(word for word in typed if word not in group))
            elif is_file or not group:
                given.append(f"{text} ({_short(source)})" if source else text)
            else:
                given.append(group[0])
        return problem.typed_as(*given)


def as_hydra_reads(word: str, root: Root) -> str:
    """Return an override in the spelling that Hydra needs: texts quoted, `++` where a section may be null."""
    return with_its_section(as_text(word, root), root)


def _short(path: Path) -> str:
    """`conf/tables/kat_imagenet.yaml` for a file of conf/, wherever that lies."""
    parts = path.parts
    start = len(parts) - 1 - parts[::-1].index("conf") if "conf" in parts else 0
    return "/".join(parts[start:])


def _flat(cfg: DictConfig, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values, nothing resolved; a section is followed by its keys."""
    for name in map(str, cfg):
        node: Any = cfg._get_node(name)
        empty = node is not None and node._is_none()
        yield prefix + name, None if empty else node
        if isinstance(node, DictConfig) and not (empty or node._is_interpolation() or node._is_missing()):
            yield from _flat(node, f"{prefix}{name}.")


def _grammar_problem(text: str, error: Exception) -> Problem:
    key, equals, value = text.partition("=")
    if not equals:
        why, fix = "not of the form key=value", "spaces around = split it; write key=value in one piece"
    elif key != key.strip() or value != value.strip():
        why, fix = "spaces around =", f"write {key.strip()}={value.strip()}"
    else:
        quoted = value.replace('"', "").replace("'", "")
        why = f"cannot be read: {reason(error)}"
        fix = f"if the value is a text with special characters, quote it twice: '{key}=\"{quoted}\"'"
    return Problem((key.lstrip("+~").strip(),), (text,), why, fix)
