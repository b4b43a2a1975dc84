"""Checks of the overrides of a command line; all problems are reported at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kanvision.config.checks.unknown_keys import unknown_key
from kanvision.config.errors import Problem
from kanvision.config.groups import ConfigGroups
from kanvision.config.program import program
from kanvision.config.schema.base import Section
from kanvision.config.schema.keys import keys_by_name, with_its_section
from kanvision.config.schema.root import EvalConfig, TrainConfig
from kanvision.config.schema.standalone import StandaloneConfig
from kanvision.config.secrets import OBJECTS
from kanvision.config.suggestions import closest
from kanvision.config.targets import hydra_problems, override_problems
from kanvision.config.validate import check
from kanvision.spec.extras import EXTRAS

from .compose import REFUSALS, Composer, reason, without_hydra
from .quoting import as_text, is_text, shell_word
from .sweeps import ParsedOverride, combinations, last_of_each, sweep_folder_problems, sweep_values

__all__ = ["check_overrides", "to_hydra_spelling"]

Root = type[TrainConfig] | type[EvalConfig] | type[StandaloneConfig]
# Hydra plugins, by the beginning of their names.
PLUGINS = {
    "optuna": "hydra_plugins.hydra_optuna_sweeper",
    "submitit": "hydra_plugins.hydra_submitit_launcher",
}


def check_overrides(
    root: Root, overrides: Sequence[str], composing: Composer, choices: ConfigGroups, multirun: bool = False
) -> tuple[list[Problem], DictConfig | None]:
    """Check the overrides of a command line.

    Returns:
        All problems in the order of the overrides, and the composition with Hydra's own section: None for a
        sweep and where there are problems.
    """
    checker = _OverrideChecker(root, composing, choices)
    parsed = checker.parse_all(overrides)
    modes = [word.text.upper() for word in parsed if word.key == "hydra.mode"]
    multirun = multirun or any("MULTIRUN" in mode for mode in modes)
    parsed = last_of_each(checker.without_searchpath(parsed))
    if multirun:
        checker.add(*sweep_folder_problems(parsed))
    sweeps = [checker.expand(word, multirun) for word in parsed]
    composed = None
    for words in combinations([words for words in sweeps if words]):
        composed = checker.check_run(words, multirun)
    if multirun or checker.problems or composed is None:
        return checker.in_order(overrides), None
    return [], composing.complete(composed, [word.parsed for word in parsed])


class _OverrideChecker:
    """Collector of the problems of one command line."""

    def __init__(self, root: Root, composing: Composer, choices: ConfigGroups) -> None:
        self.root: type[Section] = root
        self.composing, self.choices = composing, choices
        self.problems: dict[tuple[Any, ...], Problem] = {}
        # Groups with an unknown choice: their keys cannot be checked.
        self.unknown_groups: set[str] = set()

    def add(self, *problems: Problem) -> None:
        """Collect problems, each once."""
        for problem in problems:
            self.problems.setdefault((problem.keys, problem.given, problem.why), problem)

    def in_order(self, overrides: Sequence[str]) -> list[Problem]:
        """Return the problems in the order of their overrides; problems of files come last."""

        def position(problem: Problem) -> int:
            matches = (
                i
                for i, text in enumerate(overrides)
                if any(text in given for given in problem.given)
                or text.partition("=")[0].lstrip("+~") in problem.keys
            )
            return next(matches, len(overrides))

        return sorted(self.problems.values(), key=position)

    # --- single overrides ---------------------------------------------------------------------------------

    def parse_all(self, overrides: Iterable[str]) -> list[ParsedOverride]:
        """Parse overrides, without those whose grammar is wrong."""
        parsed = []
        for text in overrides:
            try:
                parsed.append(self.parse(text))
            except REFUSALS as error:
                self.add(_grammar_problem(text, error))
        return parsed

    def parse(self, text: str) -> ParsedOverride:
        """Parse one override; HydraException if its grammar is wrong."""
        return ParsedOverride(text, self.composing.parse(to_hydra_spelling(text, self.root)))

    def without_searchpath(self, overrides: Sequence[ParsedOverride]) -> list[ParsedOverride]:
        """Return the overrides without `hydra.searchpath`, which Hydra would follow unchecked."""
        for word in overrides:
            if word.key == "hydra.searchpath":
                section = {"searchpath": [str(word.parsed.value())]}
                self.add(*(p.typed_as(word.text) for p in hydra_problems(section, [], [])))
        return [word for word in overrides if word.key != "hydra.searchpath"]

    def expand(self, word: ParsedOverride, multirun: bool) -> list[ParsedOverride]:
        """Return one override for each value of a sweep, without those that choose no file."""
        if word.is_sweep and not multirun:
            fix = f"{program('train')} -m {word.text}"
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
        return [substitute for text in texts for substitute in self._resolve_choice(self.parse(text))]

    # --- choices ------------------------------------------------------------------------------------------

    def is_choice(self, word: ParsedOverride) -> bool:
        """Return True if an override chooses a file, or sets a key of Hydra, which is composed first too."""
        return word.key in self.choices.groups or word.key.startswith(("hydra.", "hydra/")) or "/" in word.key

    def _resolve_choice(self, word: ParsedOverride) -> list[ParsedOverride]:
        """Return the override if its choice exists, else the one that was probably meant, if any."""
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
            optional = f"to take none write ~{group}; " if default is None or "${" in default else ""
            self.add(word.problem(f"{group} needs a choice", optional + self.choices.listing(group)))
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
        meant = (
            word.text.replace(unknown[0], near[0])
            if near and group in OBJECTS and isinstance(value, list)
            else ""
        )
        guess = f"did you mean {meant or f'{group}={near[0]}'}?" if near else ""
        listed = self.choices.listing(group, near)
        self.add(word.problem(f"no such choice of {group}", "\n".join(filter(None, (guess, listed)))))
        self.unknown_groups.add(group)
        if not near or default is None or "${" in default:
            return []  # such files set keys in every section, so a guess would cause wrong problems
        return [self.parse(f"{group}={near[0]}")]

    def _plugin_exists(self, word: ParsedOverride, group: str, choice: str) -> bool:
        """Return True if a plugin of Hydra is installed; if not, collect the problem."""
        legal = self.composing.plugin_choices(group)
        if choice in legal:
            return True
        extra = next((EXTRAS[module] for name, module in PLUGINS.items() if choice.startswith(name)), None)
        hint = f'pip install "kanvision[{extra}]"' if extra else f"legal: {', '.join(legal)}"
        self.add(
            word.problem(
                f"{group}={choice} is not installed" if extra else f"no such choice of {group}", hint
            )
        )
        return False

    # --- one run ------------------------------------------------------------------------------------------

    def check_run(self, words: Sequence[ParsedOverride], multirun: bool) -> DictConfig | None:
        """Compose a run, then check its keys and its values; return the composition, None if it fails."""
        chosen = self._composable([word for word in words if self.is_choice(word)], [])
        if chosen is None:
            return None
        texts = [word.line for word in chosen]
        base = self.composing.compose(texts, [])
        wanted = [word for word in words if not self.is_choice(word)]
        wanted.extend(self._searched(base, multirun))
        present = dict(_flat(base))
        sound = self._composable([word for word in wanted if self._exists(word, base, present)], texts)
        root: type[Any] = self.root
        while sound is not None:
            cfg = self.composing.compose(texts, [word.parsed for word in sound])
            config, problems = check(without_hydra(cfg), root, self.choices)
            section: Any = OmegaConf.to_container(cfg.hydra, resolve=False)
            typed = [word.key for word in [*chosen, *sound]]
            problems += hydra_problems(section, typed, self.composing.searchpath)
            problems += override_problems(section, [*self.composing.fixed, *texts])
            blamed = [word for word in sound if any(word.touches(problem.keys[0]) for problem in problems)]
            last = config is not None or not blamed
            for problem in problems:
                is_own = any(word.touches(key) for word in sound for key in problem.keys)
                if is_own if not last else not self._is_uncertain(problem):
                    self.add(self._as_typed(problem, [*sound, *chosen], cfg))
            if last:
                return cfg
            # A wrong value hides further problems: check again without it.
            sound = [word for word in sound if word not in blamed]
        return None

    def _is_uncertain(self, problem: Problem) -> bool:
        """Return True if a problem may be a consequence of one that was found before."""
        known = {key for other in self.problems.values() for key in other.keys}
        return any(key in known or key.partition(".")[0] in self.unknown_groups for key in problem.keys)

    def _composable(self, words: list[ParsedOverride], choices: Sequence[str]) -> list[ParsedOverride] | None:
        """Return the overrides that Hydra accepts; None if the files do not compose even without them."""

        def refusal(some: Sequence[ParsedOverride]) -> Exception | None:
            is_values = choices or not all(map(self.is_choice, some))
            try:
                if is_values:
                    self.composing.compose(choices, [word.parsed for word in some])
                else:
                    self.composing.compose([word.line for word in some], [])
            except REFUSALS as error:
                return error
            return None

        if refusal(words) is None:
            return words
        if (error := refusal([])) is not None:
            self.add(Problem(("conf",), ("conf/",), f"the files do not compose: {reason(error)}"))
            return None
        accepted: list[ParsedOverride] = []
        for word in words:
            error = refusal([*accepted, word])
            if error is None:
                accepted.append(word)
            else:
                self.add(word.problem(reason(error)))
        return accepted

    def _searched(self, cfg: DictConfig, multirun: bool) -> list[ParsedOverride]:
        """Return an override for each setting that a hyperparameter search varies, with one of its values."""
        params = OmegaConf.select(cfg, "hydra.sweeper.params")
        if not params:
            return []
        chosen = cfg.get("hydra").runtime.choices
        groups = [group for group in ("hparams_search", "experiment") if chosen.get(group)]
        if not multirun and groups:
            given = f"{groups[0]}={chosen[groups[0]]}"
            self.add(Problem((groups[0],), (given,), "a search consists of several runs", "add -m"))
        words = self.parse_all(f"{key}={value}" for key, value in dict(params).items())
        return [self.expand(word, multirun=True)[0] for word in words]

    def _exists(self, word: ParsedOverride, cfg: DictConfig, present: Mapping[str, Any]) -> bool:
        """Return True if an override sets a key of `present`, or may add it; if not, collect the problem."""
        override, key = word.parsed, word.key
        if override.package is not None:
            groups = ", ".join(self.choices.groups)
            self.add(word.problem("only groups take a package (@)", f"groups: {groups}"))
            return False
        node = present.get(key)
        if override.is_delete() and node is not None and node._is_interpolation():
            why = f"it refers to other keys ({node._value()}), and only a plain value can be deleted"
            self.add(word.problem(why, f"set it: {key}=<value>"))
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
        if key.partition(".")[0] in self.unknown_groups and (key in index or key.startswith("basis.")):
            return False
        if any(parent == name or parent.startswith(f"{name}.") for name in self._open_sections()):
            near = closest(key, [name for name in present if name.startswith(f"{parent}.")], limit=3)
            guess = "\n".join(f"closest: {name}" for name in near)
            added = "" if override.is_delete() else f"new keys are added with +: +{word.text}"
            self.add(word.problem("unknown key", f"{guess}\n{added}"))
        else:
            tags = {"model": "model.family", "data": "data.name"} if self.root is not EvalConfig else {}
            chosen = {group: OmegaConf.select(cfg, tag) for group, tag in tags.items()}
            names = [name for name in present if not name.startswith("hydra")]
            self.add(unknown_key(key, self.root, chosen, names).typed_as(word.text))
        return False

    def _open_sections(self) -> list[str]:
        """Return the sections that take keys of the user's own."""
        return [name for name, keys in keys_by_name(self.root).items() if "of your own" in keys[0].expected]

    def _as_typed(self, problem: Problem, words: Sequence[ParsedOverride], cfg: DictConfig) -> Problem:
        """Return the problem with the overrides that cause it, or with the file that sets the values."""
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


def to_hydra_spelling(word: str, root: type[Section]) -> str:
    """Return an override as Hydra reads it: texts quoted, `++` where a section may be null."""
    return with_its_section(as_text(word, root), root)


def _short(path: Path) -> str:
    """Return the path of a file from conf/ on, such as `conf/tables/kat_imagenet.yaml`."""
    parts = path.parts
    start = len(parts) - 1 - parts[::-1].index("conf") if "conf" in parts else 0
    return "/".join(parts[start:])


def _flat(cfg: DictConfig, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys with their values, nothing resolved; a section comes before its keys."""
    for name in map(str, cfg):
        node: Any = cfg._get_node(name)
        empty = node is not None and node._is_none()
        yield prefix + name, None if empty else node
        if isinstance(node, DictConfig) and not (empty or node._is_interpolation() or node._is_missing()):
            yield from _flat(node, f"{prefix}{name}.")


def _grammar_problem(text: str, error: Exception) -> Problem:
    """Return the problem of an override that cannot be parsed."""
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
