"""Imports run one way, and a few things are not to be found in the source at all."""

import ast
from collections import Counter
from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("pipeline", "components", "trainers", "serving")
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}
NAMES = ("addresses", "clean", "features", "file_names", "settings", "errors")
TRAINERS_USE = (*NAMES, "files", "download", "text.vocabulary", "push.model_files", "push.model_graph")
SERVING_USES = (*NAMES, "files", "push.aliases", "push.manifest", "push.model_files", "push.model_graph")
"""What of components these may import; none of it brings TFX or MLflow."""
KNOW_MLFLOW = (
    "components.registry.own_store",
    "components.registry.tracking",
    "components.registry.registry",
    "components.registry.spool",
    "components.registry.pyfunc",
)
PICKLES = ("pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal")

MOST_MODULES = 20

Rule = Callable[[str, ast.Module], Iterator[tuple[int, str]]]
Arrows = dict[str, set[str]]
"""From a module, or a room, to those that it imports."""


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
    if below(module, "serving.batch"):
        # It brings Beam, which batch inference runs on.
        allowed += ("components.tables",)
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
    if module == "components.registry.pyfunc":
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
    """A client imports the names, and the command line its commands and families, without waiting for TensorFlow."""
    names = (
        "components.features",
        "components.errors",
        "pipeline.config.config",
        "pipeline.config.presets",
        "pipeline.run.record",
    )
    light = (*names, "pipeline.config.families", "trainers.families", "trainers.family", "trainers.config")
    of_families = below(module, "trainers") and module.endswith((".family", ".config"))
    if module in light or of_families or below(module, "pipeline.cli"):
        for line, name in imports(tree):
            if below(name, "tensorflow", "tensorflow_text", "tensorflow_transform", "tf_keras", "tfx", "apache_beam"):
                yield line, name


def commands_import_no_command(module: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """What several commands need stands beside them."""
    if below(module, "pipeline.cli.commands"):
        for line, name in imports(tree):
            if below(name, "pipeline.cli.commands"):
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


def case_is_folded_in_one_place(module: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Told an encoding, TensorFlow changes case as the locale of the process has it."""
    if module != "components.text.words":
        for node in ast.walk(tree):
            named = dotted(node.func).split(".")[-1] if isinstance(node, ast.Call) else ""
            if named in ("lower", "upper") and (node.keywords or len(node.args) > 1):  # type: ignore[attr-defined]
                yield node.lineno, named  # type: ignore[attr-defined]


RULES: tuple[Rule, ...] = (
    case_is_folded_in_one_place,
    imports_run_one_way,
    imports_are_absolute,
    packages_hold_no_code,
    orchestrators_are_known_to_runners_only,
    mlflow_is_known_to_few,
    what_mlflow_loads_stands_alone,
    what_servers_share_is_free_of_training,
    names_are_free_of_the_stack,
    commands_import_no_command,
    nothing_unsafe,
)


def test_the_walk_sees_the_source() -> None:
    assert {
        *(f"components.{name}" for name in (*TRAINERS_USE, *SERVING_USES)),
        *KNOW_MLFLOW,
        "components.features",
        "components.example_gen.source",
        "trainers.transformer.run",
        "serving.model.loaded",
        "pipeline.graph",
        "pipeline.run.launch",
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
        (imports_run_one_way, "components.push.local", "import pipeline"),
        (imports_run_one_way, "components.push.local", "from trainers import fit"),
        (imports_run_one_way, "components.push.local", "from serving.model.loaded import LoadedModel"),
        (imports_run_one_way, "components.push.local", "def push():\n    from pipeline.config.config import Config"),
        (imports_run_one_way, "trainers.fit", "import components"),
        (imports_run_one_way, "trainers.fit", "from components import features, text"),
        (imports_run_one_way, "trainers.fit", "from components.text import words"),
        (imports_run_one_way, "trainers.fit", "from components.features_of_mine import TEXT"),
        (imports_run_one_way, "trainers.fit", "from components.example_gen.fetch import fetch"),
        (imports_run_one_way, "trainers.fit", "from serving import models"),
        (imports_run_one_way, "trainers.export", "from components.push.aliases import read_aliases"),
        (imports_run_one_way, "trainers.export", "from components.push.manifest import verify"),
        (imports_run_one_way, "trainers.export", "from components.push.model_base import locked"),
        (imports_run_one_way, "serving.model.loaded", "from components.text.words import tokenize"),
        (imports_run_one_way, "serving.model.loaded", "from components.registry.tracking import find_runs"),
        (
            imports_run_one_way,
            "serving.model.loaded",
            "def champion():\n    from components.registry.registry import Registry",
        ),
        (imports_run_one_way, "serving.model.loaded", "from components.registry import promotion"),
        (imports_run_one_way, "serving.model.loaded", "from components.push.local import verify"),
        (imports_run_one_way, "serving.model.loaded", "from components.aliases_of_mine import read_aliases"),
        (imports_run_one_way, "serving.model.loaded", "from components.text.vocabulary import read"),
        (imports_run_one_way, "serving.model.loaded", "from components.download import download"),
        (imports_run_one_way, "serving.http.app", "from components.tables.files import open_input"),
        (imports_run_one_way, "serving.model.loaded", "from trainers.export import export"),
        (imports_run_one_way, "serving.model.loaded", "importlib.import_module('pipeline.graph')"),
        (imports_are_absolute, "components.push.local", "from . import text"),
        (imports_are_absolute, "components.push.local", "from components.features import *"),
        (packages_hold_no_code, "components", '"""Doc."""\nfrom components import text'),
        (orchestrators_are_known_to_runners_only, "pipeline.graph", "import kfp.dsl"),
        (
            orchestrators_are_known_to_runners_only,
            "pipeline.cli.commands.submit",
            "from google.cloud import aiplatform",
        ),
        (mlflow_is_known_to_few, "pipeline.run.execute", "import mlflow"),
        (mlflow_is_known_to_few, "pipeline.run.execute", "from mlflow.entities import Metric"),
        (mlflow_is_known_to_few, "pipeline.cli.commands.models", "def list_():\n    from mlflow import MlflowClient"),
        (mlflow_is_known_to_few, "components.registry.promotion", "from mlflow.exceptions import MlflowException"),
        (mlflow_is_known_to_few, "components.registry_of_mine", "import mlflow.pyfunc"),
        (mlflow_is_known_to_few, "serving.model.loaded", "import mlflow"),
        (what_mlflow_loads_stands_alone, "components.registry.pyfunc", "from components import features"),
        (what_mlflow_loads_stands_alone, "components.registry.pyfunc", "def f():\n    import serving.model.loaded"),
        (
            what_servers_share_is_free_of_training,
            "components.push.aliases",
            "from components.registry.registry import CHAMPION",
        ),
        (what_servers_share_is_free_of_training, "components.push.manifest", "from tfx.dsl.io import fileio"),
        (what_servers_share_is_free_of_training, "components.push.model_files", "def f():\n    import mlflow"),
        (names_are_free_of_the_stack, "components.features", "import tensorflow as tf"),
        (names_are_free_of_the_stack, "trainers.heap.family", "def prepare():\n    import tensorflow as tf"),
        (names_are_free_of_the_stack, "pipeline.cli.commands.serve", "def command():\n    import tfx.proto"),
        (commands_import_no_command, "pipeline.cli.commands.batch", "from pipeline.cli.commands.run import command"),
        (case_is_folded_in_one_place, "trainers.fit", "tf.strings.lower(text, encoding='utf-8')"),
        (case_is_folded_in_one_place, "trainers.fit", "from tensorflow.strings import upper\nupper(text, 'utf-8')"),
        (nothing_unsafe, "components.push.local", "import pickle"),
        (nothing_unsafe, "components.push.local", "from dill import loads"),
        (nothing_unsafe, "components.push.local", "from joblib import load"),
        (nothing_unsafe, "components.push.local", "yaml.load(text, Loader=yaml.SafeLoader)"),
        (nothing_unsafe, "components.push.local", "from yaml import load"),
        (nothing_unsafe, "components.push.local", "eval('1')"),
        (nothing_unsafe, "components.push.local", "run = exec"),
        (nothing_unsafe, "components.push.local", "os.system('ls')"),
        (nothing_unsafe, "components.push.local", "from os import system"),
        (nothing_unsafe, "components.push.local", "subprocess.run('ls', shell=True)"),
        (nothing_unsafe, "components.push.local", "subprocess.Popen('ls', shell=chosen)"),
        (nothing_unsafe, "components.push.local", "np.load(path, allow_pickle=True)"),
    ],
)
def test_a_planted_fault_is_found(rule: Rule, module: str, source: str) -> None:
    assert list(rule(module, ast.parse(source)))


@pytest.mark.parametrize(
    ("rule", "module", "source"),
    [
        (imports_run_one_way, "pipeline.graph", "from components.push.local import Pusher\nfrom trainers import fit"),
        (imports_run_one_way, "components.push.local", "from components.artifacts import Verdict\nimport json"),
        (imports_run_one_way, "trainers.fit", "from components import features\nfrom trainers.input import Rows"),
        (imports_run_one_way, "trainers.bert.fetch", "from components.download import download"),
        (
            imports_run_one_way,
            "trainers.bert.fetch",
            "from components import errors\nfrom components.text import vocabulary",
        ),
        (imports_run_one_way, "trainers.bert.fetch", "from components.push import model_files, model_graph"),
        (imports_run_one_way, "serving.model.loaded", "from components.features import TEXT"),
        (imports_run_one_way, "serving.batch.plan", "from components.tables.files import open_input"),
        (imports_run_one_way, "serving.model.loaded", "from components.push.aliases import read_aliases"),
        (
            imports_run_one_way,
            "serving.model.loaded",
            "from components import errors\nfrom components.push import manifest",
        ),
        (
            imports_run_one_way,
            "serving.repository.repository",
            "from components.push.model_files import check_model_files",
        ),
        (
            imports_run_one_way,
            "serving.repository.repository",
            "from components.push.model_graph import check_model_graph",
        ),
        (orchestrators_are_known_to_runners_only, "pipeline.runners.kubeflow", "import kfp"),
        (mlflow_is_known_to_few, "components.registry.tracking", "from mlflow import MlflowClient"),
        (mlflow_is_known_to_few, "components.registry.registry", "def save():\n    from mlflow import pyfunc"),
        (mlflow_is_known_to_few, "components.registry.spool", "from mlflow.entities import Metric"),
        (what_mlflow_loads_stands_alone, "components.registry.pyfunc", "from mlflow.models import set_model"),
        (
            what_servers_share_is_free_of_training,
            "components.push.manifest",
            "from components.errors import BadInputError",
        ),
        (what_servers_share_is_free_of_training, "components.push.model_graph", "import tensorflow as tf"),
        (
            what_servers_share_is_free_of_training,
            "components.registry.promotion",
            "from components.registry.registry import CHAMPION",
        ),
        (nothing_unsafe, "components.push.local", "yaml.safe_load(text)\nsubprocess.run(['ls'], shell=False)"),
        (nothing_unsafe, "components.push.local", "model.eval()\nre.compile('x')\nnp.load(path, allow_pickle=False)"),
    ],
)
def test_what_is_allowed_is_not_reported(rule: Rule, module: str, source: str) -> None:
    assert list(rule(module, ast.parse(source))) == []


def room_of(module: str) -> str:
    """Returns the folder of a module below its package; a module beside the folders is a room of its own."""
    return ".".join(module.split(".")[:2])


def arrows_between_modules() -> Arrows:
    """Returns every import of this project's own, also one inside a function, and one that only type checkers see."""
    return {
        module: {
            found
            for _, name in imports(ast.parse(path.read_text(encoding="utf-8")))
            for found in (name, name.rpartition(".")[0])
            if found in MODULES and found != module and MODULES[found].name != "__init__.py"
        }
        for module, path in MODULES.items()
    }


def arrows_between_rooms(modules: Arrows) -> Arrows:
    rooms: Arrows = {}
    for module, targets in modules.items():
        room = room_of(module)
        rooms.setdefault(room, set()).update(room_of(target) for target in targets if room_of(target) != room)
    return rooms


def find_circle(arrows: Arrows) -> list[str]:
    """Returns the nodes of a circle, the first one again at the end; none where all arrows run one way."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def crowded(modules: list[str]) -> dict[str, int]:
    """Returns the folders that hold more than ``MOST_MODULES`` modules at one level."""
    counted = Counter(module.rpartition(".")[0] for module in modules)
    return {folder: count for folder, count in counted.items() if count > MOST_MODULES}


def test_no_files_import_each_other_in_a_circle() -> None:
    assert find_circle(arrows_between_modules()) == []


def test_no_arrow_between_rooms_runs_back_up() -> None:
    """If one room imports another, directly or through others, the other imports nothing of it."""
    assert find_circle(arrows_between_rooms(arrows_between_modules())) == []


def test_no_folder_is_crowded() -> None:
    assert crowded([name for name, path in MODULES.items() if path.name != "__init__.py"]) == {}


def test_arrows_are_seen() -> None:
    arrows = arrows_between_modules()
    assert {"components.features", "components.errors"} <= arrows["components.evaluation.predictions"]
    # Inside a function, and for type checkers only.
    assert "components.example_gen.examples" in arrows["components.evaluation.predictions"]
    assert "components.registry.tracking" in arrows["pipeline.run.record"]
    assert {"components.gates", "trainers.family"} <= arrows_between_rooms(arrows)["pipeline.config"]


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("components.evaluation.metrics", "components.report.page"),
        ("components.features", "components.registry.registry"),
        ("pipeline.workspace.place", "pipeline.run.record"),
        ("serving.model.loaded", "serving.http.app"),
    ],
)
def test_a_planted_arrow_back_is_found(module: str, imported: str) -> None:
    arrows = arrows_between_modules()
    arrows[module].add(imported)
    circle = find_circle(arrows_between_rooms(arrows))
    assert {room_of(module), room_of(imported)} <= set(circle)


def test_a_planted_circle_of_files_is_found() -> None:
    assert set(find_circle({"a": {"b"}, "b": {"c"}, "c": {"b"}})) == {"b", "c"}


def test_a_crowded_folder_is_found() -> None:
    assert crowded([f"pipeline.cli.command{number}" for number in range(MOST_MODULES + 1)]) == {"pipeline.cli": 21}
