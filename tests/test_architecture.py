"""Where code may live: the imports of every file, read from its syntax tree."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(
    [ROOT / "run.py", *ROOT.glob("synpriv/**/*.py"), *ROOT.glob("hydra_plugins/**/*.py")]
)
METHODS = sorted((ROOT / "synpriv" / "methods").rglob("*.py"))
every_file = pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))


def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), str(file))


def imports(file: Path) -> set[str]:
    """Full names of all that a file imports, also inside functions."""
    return names(tree(file))


def names(module: ast.Module) -> set[str]:
    """Full names of all that a syntax tree imports."""
    found: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import of {node.module}"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def importers(package: str) -> set[str]:
    """Files, relative to the root, that import a package or anything in it."""
    return {str(f.relative_to(ROOT)) for f in FILES if _uses(f, package)}


def _uses(file: Path, package: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for name in imports(file))


def test_the_walk_sees_the_package() -> None:
    assert len(FILES) > 20
    assert "synpriv/shadow/fitting.py" in importers("pytorch_lightning")


def test_only_one_file_imports_wandb() -> None:
    assert importers("wandb") == {"synpriv/wandb_session.py"}


@pytest.mark.parametrize(
    ("package", "user"),
    [
        ("torch.utils.tensorboard", "synpriv/tracking/tensorboard.py"),
        ("mlflow", "synpriv/tracking/mlflow.py"),
        ("optuna", "hydra_plugins/synpriv/_study.py"),
        ("wandb_workspaces", "synpriv/dashboard.py"),
    ],
)
def test_an_optional_package_has_one_user_which_imports_it_inside_functions(
    package: str, user: str
) -> None:
    assert importers(package) == {user}
    assert not any(name.startswith(package) for name in imports_at_import(ROOT / user))


def test_only_dp_sgd_s_parts_import_opacus() -> None:
    assert importers("opacus") == {
        f"synpriv/methods/dpsgd/{name}.py" for name in ("accounting", "per_sample")
    }


def test_only_fitting_uses_a_trainer() -> None:
    using = {str(f.relative_to(ROOT)) for f in FILES if "Trainer" in set(_used(f, "Trainer"))}
    assert using == {"synpriv/shadow/fitting.py"}


def _used(file: Path, name: str) -> Iterator[str]:
    """`name` where it is called, also as an attribute of a module."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", None))
            # schema.Trainer is the typed node, made by a default_factory, not by a call
            if called == name:
                yield called


def test_only_these_files_see_a_dictconfig() -> None:
    allowed = {"schema", "config", "pipeline", "summary", "tracking/configured", "cli", "command"}
    for file in importers("omegaconf"):
        inside = file.startswith(("hydra_plugins/", "synpriv/shadow/"))
        assert inside or file in {f"synpriv/{name}.py" for name in allowed}, file


def test_the_command_line_takes_only_errors_from_omegaconf() -> None:
    taken = {n for n in imports(ROOT / "synpriv" / "cli.py") if n.startswith("omegaconf")}
    assert taken
    assert all(name.startswith("omegaconf.errors.") for name in taken)


@pytest.mark.parametrize("package", ["torch", "pytorch_lightning", "hydra", "omegaconf", "pickle"])
def test_attacks_and_statistics_are_numpy_only(package: str) -> None:
    assert not {f for f in importers(package) if f.startswith("synpriv/audit/")}


# What a wing may import of the others; nothing below may know what is above it.
BELOW: dict[str, tuple[str, ...]] = {
    "interrupts": (),
    "hardware": (),
    "terminal": (),
    "errors": (),
    "checkout": (),
    "hints": (),
    "cli": ("checkout", "interrupts", "terminal", "errors", "hints"),
    "signatures": (),
    "objective": ("signatures",),
    "guarantee": (),
    "fingerprint": (),
    "recipe": ("signatures",),
    "architectures": ("signatures", "recipe"),
    "models": ("architectures",),
    "data": ("signatures", "hardware"),
    "callables": ("signatures", "fingerprint", "data"),
    "methods": (
        *("signatures", "recipe", "guarantee", "models", "data"),
        *("callables", "errors", "terminal"),  # of somebody's own generator
    ),
    "audit": (),
    "results": ("methods", "audit", "data", "terminal", "signatures"),
    "schema": (),
    "config": (
        *("checkout", "schema", "signatures", "objective", "fingerprint", "callables", "data"),
        "audit",
    ),
    "probe": (),
    "wandb_session": ("probe",),
    "status": ("terminal", "signatures", "interrupts", "fingerprint", "data", "results"),
    "report": ("terminal", "signatures", "guarantee", "data", "audit", "results"),
    "tracking": (*("schema", "config", "results", "report", "terminal", "probe", "wandb_session"),),
    "dashboard": (
        *("cli", "interrupts", "terminal", "schema", "results", "report", "probe", "wandb_session"),
    ),
    "screen": ("audit", "data", "hardware", "report", "signatures"),
    "shadow": (
        *("methods", "audit", "results", "config", "tracking", "models", "data", "signatures"),
        *("recipe", "architectures", "fingerprint", "terminal", "hardware", "errors", "checkout"),
    ),
    "split": ("checkout", "cli", "config", "data", "interrupts", "terminal", "shadow"),
    "audits": ("hardware", "audit", "fingerprint", "report", "results", "signatures"),
    "elsewhere": (
        *("hardware", "audits", "audit", "fingerprint", "report", "results", "signatures"),
    ),
    "pipeline": ("audits", "config", "objective", "report", "results", "shadow", "tracking"),
    "summary": ("audits", "pipeline", "report", "results", "shadow", "terminal"),
    "command": ("checkout", "cli", "pipeline", "results", "shadow", "summary"),
}


@every_file
def test_no_arrow_points_upwards(file: Path) -> None:
    parts = file.relative_to(ROOT).with_suffix("").parts
    if parts[0] != "synpriv" or parts == ("synpriv", "__init__") or parts[-1] == "__main__":
        return  # a command may use everything, as run.py does
    if parts == ("synpriv", "results", "__init__"):
        # `synpriv.results.frame` is made above, and looked for there when it is asked for
        ours = {name for name in imports(file) if name.startswith("synpriv.")}
        assert ours == {"synpriv.report.frames.frame"}
        return
    wing = parts[1]
    others = {n.split(".")[1] for n in imports(file) if n.startswith("synpriv.")}
    assert others - {wing, "__version__"} <= set(BELOW[wing])


def test_the_wings_form_no_circle() -> None:
    order = list(BELOW)
    for wing, below in BELOW.items():
        assert all(order.index(other) < order.index(wing) for other in below), wing
    folder = ROOT / "synpriv"
    there = {f.stem for f in folder.iterdir() if f.suffix == ".py" or (f / "__init__.py").is_file()}
    assert there - {"__init__", "__main__"} == set(BELOW)


@pytest.mark.parametrize("file", METHODS, ids=lambda f: str(f.relative_to(METHODS[0].parent)))
def test_a_method_knows_no_other_method_no_attack_and_no_split(file: Path) -> None:
    ours = {name for name in imports(file) if name.startswith("synpriv.")}
    folder = ".".join(file.relative_to(ROOT).parent.parts)
    for name in ours:
        assert not name.startswith(("synpriv.data.split", "synpriv.data.datasets")), name
        sibling = name.startswith(f"{folder}.") and folder != "synpriv.methods"
        if name.startswith("synpriv.methods.") and not sibling:
            assert name.split(".")[2] in ("base", "classifier", "flops", "recipe", "steps"), name


def test_diffusers_is_imported_by_the_diffusion_methods_only_and_inside_functions() -> None:
    users = [file for file in FILES if _uses(file, "diffusers")]  # importing it takes seconds
    assert users
    for file in users:
        assert file.is_relative_to(ROOT / "synpriv" / "methods" / "diffusion")
        assert not any(name.split(".")[0] == "diffusers" for name in imports_at_import(file))


def test_recipes_are_light_and_know_nothing_but_recipes() -> None:
    light = [file for file in FILES if file.stem in ("recipe", "recipes", "architectures")]
    assert len(light) == 7 + 3  # one per family and the classifier's; base, networks, config
    for file in light:
        outside = {name.split(".")[0] for name in imports(file)} - set(sys.stdlib_module_names)
        assert outside <= {"synpriv", "hydra", "omegaconf"}, file
        if file.parent.name != "shadow":
            ours = {name for name in imports(file) if name.startswith("synpriv.")}
            if file.parent.name == "external":  # looks at files, which these do without torch
                ours -= {name for name in ours if name.split(".")[1] == "data"}
                ours -= {"synpriv.callables"}
            assert all(name.split(".")[1] in ("recipe", "signatures") for name in ours), file


def imports_at_import(file: Path) -> set[str]:
    """Full names of what a file imports when it is imported itself, not when a function runs."""
    module = tree(file)
    for node in ast.walk(module):
        for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or for_types:
            node.body = []
    return names(module)


def test_heavy_libraries_are_imported_at_the_top_of_training_and_methods_only() -> None:
    allowed = ("synpriv/shadow/fitting.py", "synpriv/methods/")
    assert all(file.startswith(allowed) for file in importers("pytorch_lightning"))


@every_file
def test_nothing_is_ever_unpickled_from_disk(file: Path) -> None:
    assert not _uses(file, "pickle")
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert isinstance(node.value, ast.Constant)
            assert node.value.value is False
        if isinstance(node, ast.Attribute) and node.attr == "load":
            assert not (isinstance(node.value, ast.Name) and node.value.id == "torch")


@every_file
def test_every_np_load_says_that_it_takes_no_pickle(file: Path) -> None:
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("np.load", "numpy.load"):
            assert "allow_pickle" in {keyword.arg for keyword in node.keywords}


@every_file
def test_files_and_functions_stay_readable(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 300
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno + 1 <= 60, f"{file}: {node.name}"


@every_file
def test_a_module_is_named_after_what_it_does(file: Path) -> None:
    vague = {"util", "utils", "helper", "helpers", "misc", "common"}
    assert not vague & set(file.relative_to(ROOT).with_suffix("").parts)


def test_the_plugin_namespace_can_be_shared() -> None:
    # Other launchers (joblib, submitit) live in hydra_plugins too; an __init__.py hides them.
    assert not (ROOT / "hydra_plugins" / "__init__.py").exists()
    assert (ROOT / "hydra_plugins" / "synpriv" / "__init__.py").is_file()


def test_run_py_and_the_installed_command_are_one_and_import_nothing_before_it_is_called() -> None:
    assert imports(ROOT / "run.py") == {"synpriv.__main__.main"}
    assert imports_at_import(ROOT / "synpriv" / "__main__.py") == {"synpriv.interrupts"}
