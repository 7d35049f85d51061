"""Other checkouts and other commits of kvopt, laid out so that a process can import them in place of this one."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def unpacked(source: str | Path, folder: Path) -> Path:
    """A folder to put first on ``PYTHONPATH``: the packages of a checkout or commit, with its entry points.

    Packages that ``pyproject.toml`` maps to folders of other names lie where they are imported from: an installed
    checkout's finder would else serve its own in their place. Kernels compiled before come along from a checkout.

    Parameters
    ----------
    source : str or Path
        A folder with a ``pyproject.toml``, or a commit of this repository.
    folder : Path
        Empty, or not there yet.
    """
    if (Path(source) / "pyproject.toml").exists():
        checkout = Path(source)
        _lay_out(checkout, folder)
        return folder
    raw = folder / "checkout"
    raw.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", str(source)], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    subprocess.run(["tar", "x", "-C", str(raw)], input=archive.stdout, check=True)
    _lay_out(raw, folder / "site")
    return folder / "site"


def unpacked_once(source: str | Path) -> Path:
    """The same in a folder of its own under ``build/``, where a commit keeps the kernels it has compiled.

    Parameters
    ----------
    source : str or Path
        As above. A folder is laid out anew each time.
    """
    if (Path(source) / "pyproject.toml").exists():
        name = hashlib.sha256(str(Path(source).resolve()).encode()).hexdigest()[:12]
        folder = ROOT / "build" / "checkouts" / name
        shutil.rmtree(folder, ignore_errors=True)
        return unpacked(source, folder)
    commit = _output("git", "rev-parse", f"{source}^{{commit}}").strip()
    folder = ROOT / "build" / "checkouts" / commit
    if not folder.exists():
        # Whole or not at all, whatever else unpacks it at the time.
        part = folder.with_name(f"{commit}.{os.getpid()}")
        _share_kernels(unpacked(commit, part))
        with contextlib.suppress(OSError):
            part.rename(folder)
        shutil.rmtree(part, ignore_errors=True)
    return folder / "site"


def _share_kernels(site: Path) -> None:
    """Take over this checkout's compiled kernels where every module that has some is the same to the byte."""
    folders = sorted({path.parent.parent for path in (ROOT / "kvopt").rglob("__pycache__/*.nbi")})
    modules = [
        m.relative_to(ROOT) for folder in folders for m in folder.glob("*.py") if "numba" in m.read_text("utf-8")
    ]
    if not all((site / m).exists() and (site / m).read_bytes() == (ROOT / m).read_bytes() for m in modules):
        return
    for module in modules:
        # Numba's cache goes by the time of the source.
        shutil.copystat(ROOT / module, site / module)
    for folder in folders:
        for compiled in (folder / "__pycache__").glob("*.nb[ci]"):
            target = site / compiled.relative_to(ROOT)
            target.parent.mkdir(exist_ok=True)
            shutil.copy2(compiled, target)


def _output(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True).stdout


def _lay_out(checkout: Path, folder: Path) -> None:
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))
    # Times of files are kept: numba's cache goes by them.
    shutil.copytree(checkout / "kvopt", folder / "kvopt", dirs_exist_ok=True)
    for package, place in project["tool"]["setuptools"].get("package-dir", {}).items():
        if package:
            shutil.copytree(checkout / place, folder.joinpath(*package.split(".")), dirs_exist_ok=True)
    info = folder / f"kvopt-{project['project']['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: kvopt\nVersion: {project['project']['version']}\n")
    lines = []
    for group, points in project["project"].get("entry-points", {}).items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in points.items()), ""]
    (info / "entry_points.txt").write_text("\n".join(lines))
