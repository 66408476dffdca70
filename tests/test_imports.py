"""Imports run one way, and a few things are not to be found in the source at all."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("pipeline", "components", "trainers", "serving")
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}
TRAINERS_USE = ("features", "errors", "download", "vocabulary", "model_files", "model_graph")
SERVING_USES = ("features", "errors", "aliases", "manifest", "model_files", "model_graph")
"""What of components these may import; none of it brings TFX or MLflow."""
KNOW_MLFLOW = ("components.tracking", "components.registry", "components.spool", "components.pyfunc_model")
PICKLES = ("pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal")

Rule = Callable[[str, ast.Module], Iterator[tuple[int, str]]]


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yields line and dotted name of whatever is imported, at the top or inside a function, by statement or name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (f"{node.module}." if node.module else "")
            yield from ((node.lineno, f"{prefix}{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and dotted(node.func).split(".")[-1] in ("import_module", "__import__"):
            named = node.args[0] if node.args else None
            if isinstance(named, ast.Constant):
                yield node.lineno, str(named.value)


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def below(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def imports_run_one_way(module: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """pipeline -> all; trainers -> some of components; serving -> others of them; nothing -> pipeline."""
    allowed = {
        "pipeline": PACKAGES,
        "components": ("components",),
        "trainers": ("trainers", *(f"components.{name}" for name in TRAINERS_USE)),
        "serving": ("serving", *(f"components.{name}" for name in SERVING_USES)),
    }[module.split(".")[0]]
    for line, name in imports(tree):
        if below(name, *PACKAGES) and not below(name, *allowed):
            yield line, name


def imports_are_absolute(module: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The source digest of a node follows absolute imports only."""
    for line, name in imports(tree):
        if name.startswith(".") or name.endswith(".*"):
            yield line, name


def packages_hold_no_code(module: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Importing a module runs its packages, which the source digest of a node does not follow."""
    if MODULES.get(module, Path(module)).name == "__init__.py":
        for node in tree.body:
            if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
                yield node.lineno, type(node).__name__


def orchestrators_are_known_to_runners_only(module: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    if not below(module, "pipeline.runners"):
        for line, name in imports(tree):
            if below(name, "kfp", "google.cloud.aiplatform"):
                yield line, name


def mlflow_is_known_to_few(module: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    if module not in KNOW_MLFLOW:
        for line, name in imports(tree):
            if below(name, "mlflow"):
                yield line, name


def what_mlflow_loads_stands_alone(module: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """A server of MLflow's has no newsdesk installed."""
    if module == "components.pyfunc_model":
        for line, name in imports(tree):
            if below(name, *PACKAGES):
                yield line, name


def what_servers_share_is_free_of_training(module: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Whoever serves or trains installs neither TFX nor MLflow for what it imports of components."""
    shared = {f"components.{name}" for name in (*TRAINERS_USE, *SERVING_USES)}
    if module in shared:
        for line, name in imports(tree):
            if below(name, "tfx", "mlflow", "apache_beam", "tensorflow_transform", "tensorflow_model_analysis"):
                yield line, name
            if below(name, *PACKAGES) and not below(name, *shared):
                yield line, name


def names_are_free_of_the_stack(module: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """A client imports the names, and the command line its commands, without waiting for TensorFlow."""
    light = ("components.features", "components.errors", "pipeline.config", "pipeline.presets", "pipeline.nodes")
    if module in light or below(module, "pipeline.cli"):
        for line, name in imports(tree):
            if below(name, "tensorflow", "tensorflow_text", "tensorflow_transform", "tf_keras", "tfx", "apache_beam"):
                yield line, name


def nothing_unsafe(module: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """No pickle, no YAML that makes objects, no text run as code, no shell."""
    for line, name in imports(tree):
        if below(name, *PICKLES, "os.system", "os.popen"):
            yield line, name
        if below(name, "yaml") and name.split(".")[-1] in ("load", "load_all", "unsafe_load", "full_load"):
            yield line, name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and dotted(node) in (
            "yaml.load",
            "yaml.load_all",
            "yaml.unsafe_load",
            "yaml.full_load",
            "os.system",
            "os.popen",
            "builtins.eval",
            "builtins.exec",
        ):
            yield node.lineno, dotted(node)
        if isinstance(node, ast.Name) and node.id in ("eval", "exec"):
            yield node.lineno, node.id
        if isinstance(node, ast.Call):
            if dotted(node.func).split(".")[-1] in ("getoutput", "getstatusoutput", "create_subprocess_shell"):
                yield node.lineno, dotted(node.func)
            for keyword in node.keywords:
                off = isinstance(keyword.value, ast.Constant) and not keyword.value.value
                if keyword.arg == "shell" and not off:
                    yield node.lineno, "shell="
                if keyword.arg == "allow_pickle" and not off:
                    yield node.lineno, "allow_pickle="


RULES: tuple[Rule, ...] = (
    imports_run_one_way,
    imports_are_absolute,
    packages_hold_no_code,
    orchestrators_are_known_to_runners_only,
    mlflow_is_known_to_few,
    what_mlflow_loads_stands_alone,
    what_servers_share_is_free_of_training,
    names_are_free_of_the_stack,
    nothing_unsafe,
)


def test_the_walk_sees_the_source() -> None:
    assert {
        *(f"components.{name}" for name in (*TRAINERS_USE, *SERVING_USES)),
        *KNOW_MLFLOW,
        "components.features",
        "components.example_gen.source",
        "trainers.transformer.run",
        "serving.models",
        "pipeline.graph",
        "pipeline.runners.local",
        "pipeline.cli.main",
        "pipeline.cli",
    } <= set(MODULES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_source_keeps_the_rule(rule: Rule) -> None:
    broken = [
        f"{path.relative_to(ROOT)}:{line}: {found}"
        for module, path in MODULES.items()
        for line, found in rule(module, ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert broken == []


@pytest.mark.parametrize(
    ("rule", "module", "source"),
    [
        (imports_run_one_way, "components.push", "import pipeline"),
        (imports_run_one_way, "components.push", "from trainers import fit"),
        (imports_run_one_way, "components.push", "from serving.models import LoadedModel"),
        (imports_run_one_way, "components.push", "def push():\n    from pipeline.config import Config"),
        (imports_run_one_way, "trainers.fit", "import components"),
        (imports_run_one_way, "trainers.fit", "from components import features, text"),
        (imports_run_one_way, "trainers.fit", "from components.features_of_mine import TEXT"),
        (imports_run_one_way, "trainers.fit", "from components.example_gen.fetch import fetch"),
        (imports_run_one_way, "trainers.fit", "from serving import models"),
        (imports_run_one_way, "trainers.export", "from components.aliases import read_aliases"),
        (imports_run_one_way, "trainers.export", "from components.manifest import verify"),
        (imports_run_one_way, "trainers.export", "from components.model_base import locked"),
        (imports_run_one_way, "serving.models", "from components.text import tokenize"),
        (imports_run_one_way, "serving.models", "from components.tracking import find_runs"),
        (imports_run_one_way, "serving.models", "def champion():\n    from components.registry import Registry"),
        (imports_run_one_way, "serving.models", "from components import aliases, promotion"),
        (imports_run_one_way, "serving.models", "from components.push import verify"),
        (imports_run_one_way, "serving.models", "from components.aliases_of_mine import read_aliases"),
        (imports_run_one_way, "serving.models", "from components.vocabulary import read"),
        (imports_run_one_way, "serving.models", "from components.download import download"),
        (imports_run_one_way, "serving.models", "from trainers.export import export"),
        (imports_run_one_way, "serving.models", "importlib.import_module('pipeline.run')"),
        (imports_are_absolute, "components.push", "from . import text"),
        (imports_are_absolute, "components.push", "from components.features import *"),
        (packages_hold_no_code, "components", '"""Doc."""\nfrom components import text'),
        (orchestrators_are_known_to_runners_only, "pipeline.graph", "import kfp.dsl"),
        (orchestrators_are_known_to_runners_only, "pipeline.cli.submit", "from google.cloud import aiplatform"),
        (mlflow_is_known_to_few, "pipeline.run", "import mlflow"),
        (mlflow_is_known_to_few, "pipeline.run", "from mlflow.entities import Metric"),
        (mlflow_is_known_to_few, "pipeline.cli.models", "def list_():\n    from mlflow import MlflowClient"),
        (mlflow_is_known_to_few, "components.promotion", "from mlflow.exceptions import MlflowException"),
        (mlflow_is_known_to_few, "components.registry_of_mine", "import mlflow.pyfunc"),
        (mlflow_is_known_to_few, "serving.models", "import mlflow"),
        (what_mlflow_loads_stands_alone, "components.pyfunc_model", "from components import features"),
        (what_mlflow_loads_stands_alone, "components.pyfunc_model", "def f():\n    import serving.models"),
        (what_servers_share_is_free_of_training, "components.aliases", "from components.registry import CHAMPION"),
        (what_servers_share_is_free_of_training, "components.manifest", "from tfx.dsl.io import fileio"),
        (what_servers_share_is_free_of_training, "components.model_files", "def f():\n    import mlflow"),
        (names_are_free_of_the_stack, "components.features", "import tensorflow as tf"),
        (names_are_free_of_the_stack, "pipeline.cli.serve", "def command():\n    import tfx.proto"),
        (nothing_unsafe, "components.push", "import pickle"),
        (nothing_unsafe, "components.push", "from dill import loads"),
        (nothing_unsafe, "components.push", "from joblib import load"),
        (nothing_unsafe, "components.push", "yaml.load(text, Loader=yaml.SafeLoader)"),
        (nothing_unsafe, "components.push", "from yaml import load"),
        (nothing_unsafe, "components.push", "eval('1')"),
        (nothing_unsafe, "components.push", "run = exec"),
        (nothing_unsafe, "components.push", "os.system('ls')"),
        (nothing_unsafe, "components.push", "from os import system"),
        (nothing_unsafe, "components.push", "subprocess.run('ls', shell=True)"),
        (nothing_unsafe, "components.push", "subprocess.Popen('ls', shell=chosen)"),
        (nothing_unsafe, "components.push", "np.load(path, allow_pickle=True)"),
    ],
)
def test_a_planted_fault_is_found(rule: Rule, module: str, source: str) -> None:
    assert list(rule(module, ast.parse(source)))


@pytest.mark.parametrize(
    ("rule", "module", "source"),
    [
        (imports_run_one_way, "pipeline.graph", "from components.push import Pusher\nfrom trainers import fit"),
        (imports_run_one_way, "components.push", "from components.artifacts import Verdict\nimport json"),
        (imports_run_one_way, "trainers.fit", "from components import features\nfrom trainers.input import Rows"),
        (imports_run_one_way, "trainers.bert.fetch", "from components.download import download"),
        (imports_run_one_way, "trainers.bert.fetch", "from components import errors, vocabulary"),
        (imports_run_one_way, "trainers.bert.fetch", "from components import model_files, model_graph"),
        (imports_run_one_way, "serving.models", "from components.features import TEXT"),
        (imports_run_one_way, "serving.models", "from components.aliases import read_aliases"),
        (imports_run_one_way, "serving.models", "from components import errors, manifest"),
        (imports_run_one_way, "serving.repository", "from components.model_files import check_model_files"),
        (imports_run_one_way, "serving.repository", "from components.model_graph import check_model_graph"),
        (orchestrators_are_known_to_runners_only, "pipeline.runners.kubeflow", "import kfp"),
        (mlflow_is_known_to_few, "components.tracking", "from mlflow import MlflowClient"),
        (mlflow_is_known_to_few, "components.registry", "def save():\n    from mlflow import pyfunc"),
        (mlflow_is_known_to_few, "components.spool", "from mlflow.entities import Metric"),
        (what_mlflow_loads_stands_alone, "components.pyfunc_model", "from mlflow.models import set_model"),
        (what_servers_share_is_free_of_training, "components.manifest", "from components.errors import BadInputError"),
        (what_servers_share_is_free_of_training, "components.model_graph", "import tensorflow as tf"),
        (what_servers_share_is_free_of_training, "components.promotion", "from components.registry import CHAMPION"),
        (nothing_unsafe, "components.push", "yaml.safe_load(text)\nsubprocess.run(['ls'], shell=False)"),
        (nothing_unsafe, "components.push", "model.eval()\nre.compile('x')\nnp.load(path, allow_pickle=False)"),
    ],
)
def test_what_is_allowed_is_not_reported(rule: Rule, module: str, source: str) -> None:
    assert list(rule(module, ast.parse(source))) == []
