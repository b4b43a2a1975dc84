"""The image is built from pinned parts, and everything that docker/ tells people to type is understood."""

import fnmatch
import os
import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

import kanvision
from kanvision.config import ConfigGroups, EvalConfig, TrainConfig, compose, parse_eval, parse_train

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
CONF = ROOT / "conf"
CHOICES = ConfigGroups([CONF])
VERSION = kanvision.__version__
ENTRYPOINT = DOCKER / "entrypoint"
DOCKERFILE = (DOCKER / "Dockerfile").read_text("utf-8")
README = (DOCKER / "README.md").read_text("utf-8")
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text("utf-8"))
GPU = yaml.safe_load((DOCKER / "compose.gpu.yaml").read_text("utf-8"))
LINK = ["/usr/bin/tini", "--", "/kanvision/docker/entrypoint"]


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """(FROM, ubuntu AS x), (RUN, ...) of a Dockerfile, comments gone and continued lines joined."""
    lines = "\n".join(line for line in dockerfile.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", "", lines)
    return [
        (name, rest)
        for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())
    ]


def commands(markdown: str) -> list[list[str]]:
    """The commands of a document's shell blocks, in words; variables stay as they are."""
    blocks = re.findall(r"```bash\n(.*?)```", markdown, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def given_to(words: list[str]) -> list[str] | None:
    """What a command hands to train or eval, that word first; None if it calls neither."""
    for index, word in enumerate(words):
        if word in ("train", "eval", "train.py", "eval.py"):
            return [word.removesuffix(".py"), *words[index + 1 :]]
        if word.startswith("OVERRIDES="):  # of the two nodes
            return ["train", "trainer=torchrun", *word.partition("=")[2].split()]
    return None


def understood(words: list[str]) -> TrainConfig | EvalConfig:
    """Compose and check a configuration as train.py and eval.py would."""
    program, *overrides = words
    cfg = compose(program, [word for word in overrides if word != "--help"], CONF)
    return parse_train(cfg, CHOICES) if program == "train" else parse_eval(cfg)


def interpolated(text: str, environment: dict[str, str]) -> str:
    """`${NAME:-default}` as Compose puts it in."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: environment.get(found[1]) or found[2], text)


def entrypoint(*words: str, cwd: Path = DOCKER) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(
        [ENTRYPOINT, *words], capture_output=True, text=True, timeout=120, env=environment, cwd=cwd
    )


@pytest.fixture(autouse=True)
def _in_a_container_of_torchrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the commands find where they run: a run to evaluate, and for the nodes the words of torchrun."""
    (tmp_path / "runs" / "latest").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    job = {"TORCHELASTIC_RUN_ID": "first", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1"}
    for name, value in {**job, "LOCAL_RANK": "0", "GROUP_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)


# --- Dockerfile ---


def test_a_dockerfile_is_taken_apart() -> None:
    assert instructions("# a\nFROM x AS y\nRUN a \\\n # b\n    && b\n") == [
        ("FROM", "x AS y"),
        ("RUN", "a && b"),
    ]


def test_no_part_of_the_image_is_whatever_is_newest() -> None:
    parts = instructions(DOCKERFILE)
    assert parts[0] == ("ARG", "BASE_IMAGE=debian:bookworm-slim")
    bases = [rest.split()[0] for name, rest in parts if name == "FROM"]
    stages = {rest.split()[-1] for name, rest in parts if name == "FROM" and " AS " in rest}
    assert len(bases) == 3
    assert set(bases) <= {"${BASE_IMAGE}"} | stages
    assert ":latest" not in DOCKERFILE + str(COMPOSE) + README
    assert COMPOSE["x-image"]["image"] == f"kanvision:{VERSION}"
    installs = [rest for name, rest in parts if name == "RUN" and "pip install" in rest]
    assert len(installs) == 2
    assert "--require-hashes -r /requirements.lock" in installs[0]
    assert {"--no-deps", "--no-build-isolation", "--editable"} <= set(installs[1].split())


def test_every_package_of_the_lock_has_a_hash() -> None:
    lock = (ROOT / "requirements.lock").read_text("utf-8").replace("\\\n", " ")
    lines = [line for line in lock.splitlines() if line.strip()]
    assert len(lines) > 100
    assert [line for line in lines if "==" not in line or "--hash=sha256:" not in line] == []


def test_it_runs_as_a_user_behind_an_init() -> None:
    parts = instructions(DOCKERFILE)
    last = max(i for i, (name, _) in enumerate(parts) if name == "FROM")
    final = dict(parts[last:])
    assert final["USER"] == "${USER_ID}:${GROUP_ID}"
    assert {"USER_ID=1000", "GROUP_ID=1000"} <= {rest for name, rest in parts[last:] if name == "ARG"}
    assert [name for name, _ in parts[-3:]] == ["USER", "ENTRYPOINT", "CMD"]
    assert yaml.safe_load(final["ENTRYPOINT"]) == LINK
    assert "tini" in parts[2][1].split()
    assert final["WORKDIR"] == "/kanvision"


def test_secrets_are_mounted_and_nothing_else_comes_from_the_place_of_the_build() -> None:
    for name, rest in instructions(DOCKERFILE):
        assert name not in ("ADD", "VOLUME", "ONBUILD")
        assert not re.search(r"https?://|proxy|token|passw", rest, re.IGNORECASE) or name == "LABEL"
    mounts = re.findall(r"--mount=(\S+)", DOCKERFILE)
    assert [mount.split(",")[:2] for mount in mounts] == [["type=secret", "id=pip"], ["type=secret", "id=ca"]]


# --- what is copied into the image ---


def copied(name: str, rules: list[str]) -> bool:
    """Whether .dockerignore lets a top-level name through; the last rule that fits decides."""
    decisions = [not rule.startswith("!") for rule in rules if fnmatch.fnmatch(name, rule.removeprefix("!"))]
    return not decisions[-1]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="only a git checkout knows which files are its own")
def test_the_image_gets_the_code_and_no_data() -> None:
    text = (ROOT / ".dockerignore").read_text("utf-8")
    rules = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    for name in (".git", ".venv", "runs", "data", "best.ckpt", ".netrc", "secrets.env"):
        assert not copied(name, rules)
    command = ["git", "-c", "safe.directory=*", "ls-tree", "--name-only", "HEAD"]
    kept = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    code = {name for name in kept if not name.startswith(".")}
    assert {"src", "train.py"} <= code
    assert {name for name in code if not copied(name, rules)} == set()
    assert {rule[1:] for rule in rules if rule.startswith("!")} <= code  # each rule is about something


# --- entry point ---


@pytest.mark.parametrize("words", [[], ["help"], ["--help"], ["-h"]], ids=str)
def test_it_says_what_it_can_do(words: list[str]) -> None:
    answer = entrypoint(*words)
    assert answer.returncode == 0
    for word in ("train", "eval", "tensorboard", "test", "<program>"):
        assert f"docker run kanvision {word}" in answer.stdout


@pytest.mark.parametrize("word", ["trian", "model=kat", "--gpus"])
def test_a_wrong_word_is_answered(word: str) -> None:
    answer = entrypoint(word, "data=imagenet")
    assert answer.returncode == 127
    assert answer.stdout == ""
    assert f"'{word}' is neither a command of this image nor a program in it" in answer.stderr
    assert "train --help explains" in answer.stderr


def test_any_program_is_executed_with_its_words_and_status() -> None:
    answer = entrypoint("sh", "-c", 'echo "$0|$1"; exit 7', "two words", "*")
    assert (answer.stdout, answer.returncode) == ("two words|*\n", 7)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "--help"], "python train.py"),
        (["eval", "--help"], "python eval.py"),
        (["tensorboard", "--version"], "2."),
        (["test", "--version"], "pytest"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_words_reach_their_program(words: list[str], said: str) -> None:
    answer = entrypoint(*words)
    assert answer.returncode == 0, answer.stderr
    assert said in answer.stdout


def test_overrides_are_passed_through() -> None:
    answer = entrypoint("train", "model=kta", "optimizer.lr=fast", "run.name=with space")
    assert answer.returncode == 2
    for piece in ("model=kta", "optimizer.lr"):
        assert piece in answer.stderr
    assert "space" not in answer.stderr  # nothing is wrong with it: it arrived as one word


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_somebody_elses_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").chmod(0o555)
    answer = entrypoint("train", "--help", cwd=tmp_path)
    assert answer.returncode == 0
    assert f"user {os.getuid()} may not write into {tmp_path}/runs" in answer.stderr


# --- compose files ---


def test_the_services_are_there() -> None:
    assert list(COMPOSE["services"]) == ["train", "eval", "tensorboard", "test", "node0", "node1"]
    assert set(GPU["services"]) <= set(COMPOSE["services"])


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_each_service_runs_the_image_as_a_user(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["image"] == COMPOSE["x-image"]["image"]
    assert interpolated(service["user"], {}) == "1000:1000"
    assert service["build"]["dockerfile"] == "docker/Dockerfile"
    assert (DOCKER / service["build"]["context"]).resolve() == ROOT
    assert set(service["build"]["args"]) <= set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE))
    assert service["profiles"]  # `up` starts nothing by itself
    if not name.startswith("node"):
        assert service["entrypoint"] == [*LINK, name]
    for volume in service["volumes"]:
        assert volume["target"] in ("/kanvision/data", "/kanvision/runs")
        assert volume["bind"] == {"create_host_path": False}


def test_evaluation_of_the_latest_run_is_a_configuration() -> None:
    assert understood(["eval", *COMPOSE["services"]["eval"]["command"]]).ckpt == "latest"


def test_the_two_nodes_are_one_run() -> None:
    environment = {"PROCESSES": "8", "JOB": "kat_1", "OVERRIDES": "model=kat data=imagenet"}
    nodes = [COMPOSE["services"][name] for name in ("node0", "node1")]
    first, second = (shlex.split(interpolated(node["command"], environment)) for node in nodes)
    assert first == second
    assert "--nnodes=2" in first
    assert "--nproc-per-node=8" in first
    assert "--rdzv-id=kat_1" in first  # names the run folder on both
    assert f"--rdzv-endpoint={nodes[0]['hostname']}:29500" in first
    assert first[-2:] == ["model=kat", "data=imagenet"]
    config = understood(given_to(first))
    assert config.model.name.startswith("kat")


# --- docker/README.md ---


def test_the_readme_has_commands() -> None:
    assert commands("```bash\na \\\n  b  # c\n```\n```text\nx\n```") == [["a", "b"]]
    assert given_to(["docker", "run", "kanvision", "train", "seed=1"]) == ["train", "seed=1"]
    assert given_to(["docker", "run", "kanvision", "help"]) is None
    assert given_to(["OVERRIDES=a=1 b=2", "docker", "compose"]) == ["train", "trainer=torchrun", "a=1", "b=2"]
    assert len(commands(README)) > 15


@pytest.mark.parametrize("words", [w for w in map(given_to, commands(README)) if w], ids=" ".join)
def test_what_the_readme_types_is_understood(words: list[str]) -> None:
    assert understood(words)


def test_the_readme_names_what_exists() -> None:
    for words in commands(README):
        if "compose" in words:
            files = [after for word, after in pairwise(words) if word == "-f"]
            assert files
            assert all((ROOT / file).is_file() for file in files), files
            named = words[words.index("run") + 1 :] if "run" in words else []
            service = next((word for word in named if not word.startswith("-")), None)
            assert service is None or service in COMPOSE["services"]
        for word in words:
            if word.startswith("BASE_IMAGE=") or word.startswith("USER_ID="):
                assert f"ARG {word.partition('=')[0]}" in DOCKERFILE
    for target in re.findall(r"\]\(([^)#]+)", README):
        assert (DOCKER / target).exists(), target
