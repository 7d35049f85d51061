"""How the parts may depend on each other, read from the syntax trees."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import kvopt

PACKAGE = Path(kvopt.__file__).parent
ROOT = PACKAGE.parent
MODELS = PACKAGE.parent / "models"

LAYERS = (
    {
        "ctrl_c",
        "arguments",
        "errors",
        "feasibility",
        "frozen",
        "memory",
        "platform",
        "platforms",
        "objective",
        "objective_text",
        "prices",
        "spec_io",
        "model_spec",
        "trace",
        "trace_checks",
        "trace_io",
        "pages",
        "instance",
        "interrupts",
        "placement",
        "units",
        "residency",
        "output",
        "npz",
        "parquet",
        "placement_io",
        "reading",
        "tallies",
        "jit",
    },
    {"lowering", "counts", "evaluate", "result", "trellis", "fingerprint", "certificate_io", "admissible"},
    {"exact", "anneal", "bounds", "policies", "sources", "models"},
    {
        "solve",
        "compare",
        "explain",
        "sizing",
        "sweep",
        "sweep_file",
        "preload",
        "warmup",
        "workers",
        "instances",
        "vary",
        "describe",
        "report",
        "plotting",
        "progress",
        "studies",
    },
    {"cli", "__main__", "__init__"},
)
LAYER = {part: number for number, parts in enumerate(LAYERS) for part in parts}
ENGINES = LAYERS[2]
HEAVY = ("numba", "pandas", "scipy", "pyomo", "highspy", "matplotlib", "torch", "pyarrow", "rich")

KERNELS_BESIDE = {"kvopt.bounds.descent"}
"""Modules with kernels outside the packages that are made of them."""


def _files() -> dict[str, Path]:
    """Every module by its dotted name."""
    found = {}
    for root, prefix in ((PACKAGE, "kvopt"), (MODELS, "kvopt.models")):
        for path in root.rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join([prefix, *parts])] = path
    return found


FILES = _files()


def _part(module: str) -> str:
    """The part of kvopt a module belongs to: a package or a module at the root."""
    pieces = module.split(".")
    return pieces[1] if len(pieces) > 1 else "__init__"


def _imports(path: Path) -> list[tuple[ast.stmt, str]]:
    """(statement, module) of every import, wherever it stands; ``from kvopt import x`` counts as ``kvopt.x``."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide what depends on what"
            deeper = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [(node, name if _is_module(name) else node.module) for name in deeper]
    return found


def _is_module(name: str) -> bool:
    return name in FILES or f"{name}.__init__" in FILES


def _at_import_time(path: Path) -> list[str]:
    """Modules that importing the file imports: not those in functions or under ``if TYPE_CHECKING``."""
    found = []

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            found.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.append(node.module)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def _users_of(library: str) -> set[str]:
    return {name for name, path in FILES.items() for _, used in _imports(path) if used.split(".")[0] == library}


def test_every_module_has_a_layer():
    assert {_part(name) for name in FILES} <= set(LAYER)


@pytest.mark.parametrize("module", sorted(FILES))
def test_imports_point_down(module):
    mine = LAYER[_part(module)]
    for node, used in _imports(FILES[module]):
        if used.split(".")[0] == "kvopt":
            assert LAYER[_part(used)] <= mine, f"{module}:{node.lineno} imports {used} from a layer above"


@pytest.mark.parametrize("module", sorted(name for name in FILES if _part(name) in ENGINES))
def test_engines_do_not_import_each_other(module):
    """Save that the exact engine is what drives the formulations."""
    for node, used in _imports(FILES[module]):
        if used.split(".")[0] == "kvopt" and _part(used) in ENGINES:
            allowed = {_part(module)} | ({"models"} if _part(module) == "exact" else set())
            assert _part(used) in allowed, f"{module}:{node.lineno} imports {used}"


def test_the_certificate_is_verified_without_any_engine():
    files = ("kvopt.admissible", "kvopt.bounds.certificate", "kvopt.bounds.paths")
    used = {name for file in files for _, name in _imports(FILES[file])}
    allowed = {"kvopt.errors", "kvopt.instance", "kvopt.interrupts", "kvopt.prices", "kvopt.result", "kvopt.tallies"}
    allowed |= {"kvopt.admissible", "kvopt.bounds.paths"}
    assert {name for name in used if name.startswith("kvopt")} <= allowed


def test_libraries_stay_where_they_belong():
    assert {_part(name) for name in _users_of("pyomo")} <= {"exact", "models"}
    assert {_part(name) for name in _users_of("highspy")} <= {"exact"}
    assert _users_of("numba") == {"kvopt.jit", "kvopt.warmup"}
    for name in _kernel_modules():
        assert name.startswith(("kvopt.trellis.", "kvopt.anneal.", "kvopt.policies.kernels.")) or name in KERNELS_BESIDE
    assert {_part(name) for name in _users_of("matplotlib")} <= {"plotting", "studies", "cli"}
    assert all(name.startswith("kvopt.sources.embedded") for name in _users_of("torch"))


@pytest.mark.parametrize("library", ["matplotlib", "rich", "pandas"])
def test_libraries_for_show_are_imported_on_use(library):
    for name, path in FILES.items():
        assert library not in {used.split(".")[0] for used in _at_import_time(path)}, name


@pytest.mark.parametrize("module", ["kvopt", "kvopt.cli", "kvopt.plotting", "kvopt.report"])
def test_importing_brings_nothing_heavy(module):
    code = f"import sys, {module}; print(*(m for m in {HEAVY!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def _kernel_modules() -> set[str]:
    """The modules that have kernels."""
    return {
        name
        for name, path in FILES.items()
        for node, used in _imports(path)
        if used == "kvopt.jit" and "njit" in {alias.name for alias in node.names}
    }


def test_the_makefile_names_every_compiled_file():
    """A kernel that was changed is compiled before the tests begin, and before the demo's clock starts."""
    listed = next(line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("KERNELS :="))
    patterns = listed.split(":=")[1].replace("$(wildcard", "").replace(")", "").split()
    files = {path for pattern in patterns for path in ROOT.glob(pattern)}
    assert {FILES[name] for name in _kernel_modules()} | {PACKAGE / "jit.py"} <= files


def _kernels() -> dict:
    """All kernels of the package, by module and name."""
    found = {}
    for name in _kernel_modules():
        for thing in vars(importlib.import_module(name)).values():
            if hasattr(thing, "targetoptions"):
                found[thing.py_func.__module__, thing.py_func.__name__] = thing
    return found


def _called_by(kernel) -> dict:
    """The kernels that one calls, those in kernels inlined into it included."""
    found = {}
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(kernel.py_func)))):
        by_name = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        called = kernel.py_func.__globals__.get(node.func.id) if by_name else None
        if hasattr(called, "targetoptions"):
            found[called.py_func.__name__] = called
            if called.targetoptions.get("inline") == "always":
                found |= _called_by(called)
    return found


def test_kernels_that_count_no_references_call_none_that_do():
    """Arrays have no counter in them, and one that is not there would be counted up all the same."""
    uncounted = {name: kernel for name, kernel in _kernels().items() if kernel.targetoptions.get("_nrt") is False}
    assert len(uncounted) > 20
    for name, kernel in uncounted.items():
        source = inspect.getsource(kernel.py_func)
        assert "np.empty(" not in source
        assert "np.zeros(" not in source
        for callee, called in _called_by(kernel).items():
            options = called.targetoptions
            # Of numbers alone there is nothing to count.
            fine = options.get("inline") == "always" or options.get("_nrt") is False or callee == "from_cost"
            assert fine, f"{name} calls {callee}"
