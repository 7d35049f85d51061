"""The smoke suite with the newest and the lowest versions allowed: ``python -m tests.environments.run [NAME ...]``.

For each environment, made anew under ``build/environments``: kvopt as a wheel, with the versions of its run-time
dependencies that pyproject.toml allows at most (``newest``) or at least (``lowest``; what they need in turn is the
newest), then :mod:`tests.environments.smoke`. The bound's kernels are compiled anew, which takes most of the time, with
``--kernels all`` those of the annealer and the policies too, which takes eight minutes; what is run besides is not
compiled. Both environments are worked on at once. When tests fail, versions unlike the lock are put back one after
the other, to say which package broke what. ``--python`` runs another interpreter than this one.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.environments.smoke import KERNELS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "environments"
NAMES = ("newest", "lowest")
_SMOKE = Path(__file__).with_name("smoke.py")
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.M)
_PASSED = re.compile(r"^(\d+) passed|[ ,](\d+) passed", re.M)


@dataclass(frozen=True)
class Environment:
    """A virtual environment.

    Parameters
    ----------
    name : str
        Of :data:`NAMES`.
    folder : Path
    """

    name: str
    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"

    def pip(self, *arguments: object) -> str:
        """What pip says; it raises :class:`subprocess.CalledProcessError` where it fails."""
        command = [self.python, "-m", "pip", "--disable-pip-version-check", *arguments]
        return _output([str(part) for part in command])

    def versions(self) -> dict[str, str]:
        """Of all that is installed."""
        lines = self.pip("list", "--format=freeze").splitlines()
        return {canonicalize_name(n): v for n, v in (line.split("==") for line in lines if "==" in line)}

    def smoke(self, tests: list[str]) -> tuple[list[str], str]:
        """(tests that failed, what pytest printed); all tests where none is named."""
        surroundings = os.environ | {"NUMBA_DISABLE_JIT": "1"}
        quiet = ["-o", "addopts=", "-p", "no:cacheprovider", "-p", "no:warnings"]
        command = [self.python, "-m", "pytest", "-q", "--tb=short", "-rfE", *quiet]
        chosen = tests or [_SMOKE.name]
        # Far from the sources, so that the wheel is what is imported.
        done = subprocess.run(
            [*map(str, command), *chosen],
            cwd=self.folder,
            env=surroundings,
            capture_output=True,
            text=True,
            check=False,
        )
        failed = _FAILED.findall(done.stdout)
        return failed or ([_SMOKE.name] if done.returncode else []), done.stdout + done.stderr


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout


def requirements() -> list[Requirement]:
    """What kvopt needs to run."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [Requirement(text) for text in project["dependencies"]]


def lowest(needed: list[Requirement]) -> list[str]:
    """Pins of the lower ends of the ranges."""
    return [f"{one.name}=={spec.version}" for one in needed for spec in one.specifier if spec.operator in (">=", "~=")]


def locked() -> dict[str, str]:
    """The versions of the lock file that apply here."""
    text = (ROOT / "requirements" / "lock.txt").read_text(encoding="utf-8")
    pins = [Requirement(line) for line in (line.split("#")[0].strip() for line in text.splitlines()) if line]
    environment = default_environment()
    here = [pin for pin in pins if pin.marker is None or pin.marker.evaluate(environment)]
    return {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in here}


def differing(versions: dict[str, str], locked: dict[str, str]) -> dict[str, tuple[str, str]]:
    """(installed, locked) of every package that both have, at other versions."""
    return {
        name: (version, locked[name])
        for name, version in sorted(versions.items())
        if name in locked and locked[name] != version
    }


def blame(
    failed: list[str], suspects: dict[str, tuple[str, str]], passes_with: Callable[[str, str], set[str]]
) -> dict[str, list[str]]:
    """Which package, put back alone to the version of the lock file, mends which tests.

    Parameters
    ----------
    failed : list of str
        Tests.
    suspects : dict
        Of :func:`differing`, the likeliest first.
    passes_with : callable
        Gets a package and the version to put in its place, and returns the tests that then pass.

    Returns
    -------
    dict
        Test to packages; none where no single one mends it.
    """
    found: dict[str, list[str]] = {test: [] for test in failed}
    for package, (_, version) in suspects.items():
        if all(found.values()):
            break
        for test in passes_with(package, version) & set(failed):
            found[test].append(package)
    return found


def make(name: str, python: str, wheel: Path) -> Environment:
    """An environment with kvopt and pytest in it."""
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    _output([python, "-m", "venv", str(folder)])
    environment = Environment(name, folder)
    pins = lowest(requirements()) if name == "lowest" else []
    environment.pip("install", "--quiet", wheel, *pins, f"pytest=={locked()['pytest']}")
    shutil.copy(_SMOKE, folder)
    where = _output([str(environment.python), "-I", "-c", "import kvopt; print(kvopt.__file__)"])
    if not Path(where.strip()).is_relative_to(folder):
        raise RuntimeError(f"{name}: kvopt is imported from {where}, not from its wheel")
    return environment


def check(name: str, python: str, wheel: Path) -> tuple[bool, str]:
    """(whether all passed, what is to be said) of one environment."""
    began = time.perf_counter()
    try:
        environment = make(name, python, wheel)
    except RuntimeError as error:
        return False, f"== {name}: cannot be made\n{error}"
    versions, direct = environment.versions(), {canonicalize_name(one.name) for one in requirements()}
    failed, text = environment.smoke([])
    listed = ", ".join(f"{package} {versions[package]}" for package in sorted(direct))
    lines = [f"== {name}: {listed}", text.strip() if failed else text.strip().splitlines()[-1]]
    if failed:
        other = differing(versions, locked())
        # What kvopt asks for itself is the likeliest to be at fault.
        suspects = {p: other[p] for p in sorted(other, key=lambda package: (package not in direct, package))}
        found = blame(failed, suspects, lambda package, version: _passing(environment, package, version, failed))
        lines += [_told(test, packages, suspects) for test, packages in found.items()]
    took = f"{time.perf_counter() - began:.0f} s"
    return not failed, "\n".join([*lines, f"{name}: {'FAILED' if failed else 'done'} in {took}"])


def _passing(environment: Environment, package: str, version: str, tests: list[str]) -> set[str]:
    """The tests that pass with one package at another version, which is then put back."""
    before = environment.versions()[package]
    try:
        environment.pip("install", "--quiet", "--no-deps", f"{package}=={version}")
    except RuntimeError:
        return set()
    try:
        return set(tests) - set(environment.smoke(tests)[0])
    finally:
        environment.pip("install", "--quiet", "--no-deps", f"{package}=={before}")


def _told(test: str, packages: list[str], suspects: dict[str, tuple[str, str]]) -> str:
    if not packages:
        others = ", ".join(f"{name} {mine} (locked {other})" for name, (mine, other) in suspects.items())
        return f"{test}: no single package mends it, of {others or 'none that differs from the lock file'}"
    told = [f"{name} {suspects[name][0]} broke it, {suspects[name][1]} does not" for name in packages]
    return f"{test}: {'; '.join(told)}"


def main() -> int:
    """The number of environments that failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"Of {', '.join(NAMES)}. [default: all]")
    parser.add_argument("--python", default=sys.executable, help="Interpreter to make environments with.")
    parser.add_argument("--kernels", choices=("bound", "all"), default="bound", help="Which are compiled.")
    given = parser.parse_args()
    os.environ[KERNELS] = given.kernels
    names = given.names or list(NAMES)
    if not set(names) <= set(NAMES):
        parser.error(f"choose from {', '.join(NAMES)}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.glob("*.whl"):
        old.unlink()
    # setuptools leaves there what it packed, and packs what it finds there.
    shutil.rmtree(ROOT / "build" / "lib", ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    _output([*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(FOLDER), str(ROOT)])
    (wheel,) = FOLDER.glob("*.whl")
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda name: check(name, given.python, wheel), names))
    for _, text in done:
        print(text, flush=True)
    passed = sum(int(a or b) for _, text in done for a, b in _PASSED.findall(text))
    bad = sum(not fine for fine, _ in done)
    print(f"environments: {passed} tests passed, {bad} of {len(done)} environments failed")
    return bad


if __name__ == "__main__":
    sys.exit(main())
