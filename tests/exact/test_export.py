"""Model files: what is in them, read back by a solver, and as text."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import highspy
import numpy as np
import pytest

import kvopt
from kvopt.errors import KvoptError, MethodError
from kvopt.exact import Backend, column_count, export, export_model, highs, solve_exact
from tests.exact import general
from tests.golden import assert_same_text
from tests.instances import RULES, brute_force, tiny_instance
from tests.models.test_placement import SPECIAL, special, two_blocks

GOLDEN = Path(__file__).parent / "golden"
BACKENDS = ("arrays", "pyomo")
COPIES, MOVES = ("exclusive", "inclusive"), ("explicit", "read-through")
PER_RULES = 40


def read(path: Path) -> highspy.Highs:
    """HiGHS with what the file says, and no tolerance to speak of."""
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    for name in ("mip_rel_gap", "mip_abs_gap"):
        solver.setOptionValue(name, 0.0)
    for name in ("mip_feasibility_tolerance", "primal_feasibility_tolerance", "dual_feasibility_tolerance"):
        solver.setOptionValue(name, 1e-9)
    assert solver.readModel(str(path)) == highspy.HighsStatus.kOk
    return solver


def integers(solver: highspy.Highs) -> int:
    return sum(kind == highspy.HighsVarType.kInteger for kind in solver.getLp().integrality_)


def placement(solver: highspy.Highs, instance: kvopt.Instance) -> kvopt.Placement:
    """The solution, found by the names of its columns."""
    in_fast = np.zeros((instance.trace.n_blocks, instance.n_slots), bool)
    for name, value in zip(solver.getLp().col_names_, solver.getSolution().col_value, strict=True):
        if z := re.fullmatch(r"z\((\d+)_0_(\d+)\)", name):
            in_fast[int(z[1]), int(z[2])] = value > 0.5
    return kvopt.Placement.from_dense(in_fast)


def plain(row_name: str) -> str:
    """Without the sense that Pyomo's writer adds."""
    return re.sub(r"^c_[elu]_(.*)_$", r"\1", row_name)


def under(instance: kvopt.Instance, copies: str, moves: str) -> kvopt.Instance:
    """The same instance under other rules."""
    platform = instance.platform.with_capacity(np.inf, tier=1) if copies == "inclusive" else instance.platform
    return replace(instance, platform=platform, rules=kvopt.Rules(copies, moves))


@pytest.mark.parametrize("copies", COPIES)
@pytest.mark.parametrize("moves", [*MOVES, "free"])
@pytest.mark.parametrize("kind", ["lp", "mps"])
def test_read_back_and_solved(copies, moves, kind, tmp_path):
    """Either file has the optimum of brute force and of the exact engine, and the same columns, rows and integers."""
    for seed in range(PER_RULES):
        instance = under(tiny_instance(np.random.default_rng(seed)), copies, moves)
        best, _ = brute_force(instance)
        assert solve_exact(instance, backend="arrays").objective == pytest.approx(best, rel=1e-9, abs=0)
        names = []
        for backend in BACKENDS:
            made = export_model(instance, tmp_path / f"{backend}.{kind}", backend=backend)
            solver = read(made.path)
            assert (solver.getNumCol(), solver.getNumRow()) == (made.columns, made.rows), f"seed {seed}"
            assert solver.getNumNz() == made.nonzeros, f"seed {seed}"
            assert integers(solver) == made.integers, f"seed {seed}"
            names.append((sorted(solver.getLp().col_names_), sorted(map(plain, solver.getLp().row_names_))))
            solver.run()
            found = placement(solver, instance)
            assert not found.violations(instance), f"seed {seed}"
            assert kvopt.evaluate(instance, found).latency_s == pytest.approx(best, rel=1e-9, abs=0), f"seed {seed}"
            value_s = solver.getObjectiveValue() * made.unit
            assert value_s == pytest.approx(best, rel=1e-9, abs=0), f"seed {seed}"
        assert names[0] == names[1], f"seed {seed}"


@pytest.mark.parametrize("kind", ["lp", "mps"])
def test_read_back_and_solved_under_every_rule_and_objective(kind, tmp_path):
    for seed in range(general.KINDS * len(RULES)):
        instance = general.instance(seed)
        best, _ = brute_force(instance)
        names = []
        for backend in BACKENDS:
            made = export_model(instance, tmp_path / f"{backend}.{kind}", backend=backend)
            solver = read(made.path)
            assert (solver.getNumCol(), solver.getNumRow()) == (made.columns, made.rows), f"seed {seed}"
            assert (solver.getNumNz(), integers(solver)) == (made.nonzeros, made.integers), f"seed {seed}"
            found = (set(solver.getLp().col_names_), set(map(plain, solver.getLp().row_names_)))
            names.append([{name for name in of if "ONE_VAR_CONSTANT" not in name} for of in found])
            solver.run()
            found = solver.getObjectiveValue() * made.unit
            assert found == pytest.approx(best, rel=1e-7, abs=1e-12), f"seed {seed}"
        assert names[0] == names[1], f"seed {seed}"


def by_name(path: Path) -> dict[tuple[str, str], float]:
    """Every coefficient under the names of its row and column, rows bounded from below turned round."""
    lp = read(path).getLp()
    start, index, value = lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_
    if lp.a_matrix_.format_ == highspy.MatrixFormat.kColwise:
        entries = [(index[k], c) for c in range(lp.num_col_) for k in range(start[c], start[c + 1])]
    else:
        entries = [(r, index[k]) for r in range(lp.num_row_) for k in range(start[r], start[r + 1])]
    turned = [-1.0 if upper == np.inf else 1.0 for upper in lp.row_upper_]
    coefficients = {
        (plain(lp.row_names_[r]), lp.col_names_[c]): v * turned[r] for (r, c), v in zip(entries, value, strict=True)
    }
    sides = zip(lp.row_names_, lp.row_lower_, lp.row_upper_, turned, strict=True)
    rhs = {(plain(name), "rhs"): upper if turn > 0 else -lower for name, lower, upper, turn in sides}
    return coefficients | rhs


@pytest.mark.parametrize("kind", ["lp", "mps"])
def test_the_files_of_both_back_ends_agree_to_the_digits_that_are_printed(kind, tmp_path):
    for seed in range(30):
        instance = tiny_instance(np.random.default_rng(seed))
        one, other = (by_name(export_model(instance, tmp_path / f"{b}.{kind}", backend=b).path) for b in BACKENDS)
        assert one.keys() == other.keys(), f"seed {seed}"
        np.testing.assert_allclose(list(one.values()), [other[k] for k in one], rtol=2e-14, atol=1e-14)


def own_text(path: Path) -> str:
    """A file without what HiGHS or Pyomo says of itself, which is another in every version."""
    return re.sub(r"^(\\ File written by|\\\* Source).*\n", "", path.read_text("ascii"), flags=re.M)


@pytest.mark.parametrize("copies", COPIES)
@pytest.mark.parametrize("moves", MOVES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_text(copies, moves, backend, tmp_path):
    made = export_model(two_blocks(copies, moves), tmp_path / "model.lp", backend=backend)
    assert_same_text(own_text(made.path), own_text(GOLDEN / f"{copies}_{moves}_{backend}.lp"))


@pytest.mark.parametrize("case", SPECIAL)
@pytest.mark.parametrize("backend", BACKENDS)
def test_text_of_special_rules_and_objectives(case, backend, tmp_path):
    made = export_model(special(case), tmp_path / "model.lp", backend=backend)
    assert_same_text(own_text(made.path), own_text(GOLDEN / f"{case}_{backend}.lp"))


def test_a_column_that_occurs_nowhere_is_in_no_file(tmp_path):
    """Under inclusive copies, the copy of a block that lives for one slot and is not read."""
    trace = kvopt.Trace.from_accesses(
        [0], [0], n_steps=1, n_lanes=1, lane=[0, 0], size_bytes=[1, 1], write_step=[-1, -1]
    )
    platform = kvopt.Platform.preset("gh200").with_capacity(5)
    instance = kvopt.Instance(trace, platform, kvopt.Rules("inclusive"))
    assert column_count(instance) == 3
    for backend in BACKENDS:
        made = export_model(instance, tmp_path / "model.mps", backend=backend)
        solver = read(made.path)
        assert made.columns == solver.getNumCol() == 2
        assert made.integers == integers(solver) == 1


def test_compressed_files_hold_the_same(tmp_path):
    instance = tiny_instance(np.random.default_rng(3))
    for kind in ("lp", "mps"):
        plain_file = export_model(instance, tmp_path / f"model.{kind}")
        packed = export_model(instance, tmp_path / f"packed.{kind}.gz")
        assert packed.path.read_bytes()[:2] == b"\x1f\x8b"
        assert by_name(plain_file.path) == by_name(packed.path)


def test_lines_are_short_enough_for_other_readers(tmp_path):
    """And what is broken into lines is still the same program."""
    rng = np.random.default_rng(0)
    trace = kvopt.Trace.from_accesses(
        np.arange(300),
        np.zeros(300, int),
        n_steps=2,
        n_lanes=1,
        lane=np.zeros(300, int),
        size_bytes=rng.integers(10**5, 10**6, 300),
        write_step=np.full(300, -1),
    )
    instance = kvopt.Instance(trace, kvopt.Platform.preset("gh200")).with_hbm_bytes(4e7)
    lp, mps = (export_model(instance, tmp_path / f"model.{kind}").path for kind in ("lp", "mps"))
    assert max(map(len, lp.read_text().splitlines())) <= 560
    assert by_name(lp) == by_name(mps)


def test_comments_cannot_be_broken_out_of(tmp_path):
    trace = two_blocks("exclusive", "explicit").trace._replace(name="two\nlines \u00b5")
    instance = kvopt.Instance(trace, kvopt.Platform.preset("gh200"))
    text = export_model(instance, tmp_path / "model.lp").path.read_text("ascii")
    assert text.startswith("\\ kvopt: two lines \\xb5 on gh200, exclusive copies, explicit moves\n")


@pytest.mark.parametrize("backend", [None, "arrays", "pyomo", "auto", Backend.ARRAYS])
def test_back_ends_are_named_like_those_of_the_exact_engine(backend, tmp_path):
    made = kvopt.export_model(two_blocks("exclusive", "explicit"), tmp_path / "model.lp", backend=backend)
    assert made.backend is (Backend.PYOMO if backend in ("pyomo", "auto") else Backend.ARRAYS)


def test_what_cannot_be_done_is_refused(tmp_path, monkeypatch):
    instance = two_blocks("exclusive", "explicit")
    with pytest.raises(KvoptError, match=r"path: .*model.txt ends like no kind of model file. Use one of: .lp, .mps"):
        export_model(instance, tmp_path / "model.txt")
    with pytest.raises(MethodError, match=r"backend: 'gams' is not known"):
        export_model(instance, tmp_path / "model.lp", backend="gams")
    with pytest.raises(KvoptError, match=r"--output: cannot write"):
        export_model(instance, tmp_path / "missing" / "model.lp", field="--output")
    monkeypatch.setitem(export.MOST_COLUMNS, Backend.ARRAYS, 13)
    with pytest.raises(KvoptError, match=r"instance: its exact model has 14 columns, more than the 13 that arrays may"):
        export_model(instance, tmp_path / "model.lp")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_whole_or_not_at_all(error, tmp_path, monkeypatch):
    path = tmp_path / "model.lp"
    path.write_text("what was there")
    write = highs.write

    def stopped(*arguments):
        write(*arguments)
        raise error

    monkeypatch.setattr(highs, "write", stopped)
    with pytest.raises(error):
        export_model(two_blocks("exclusive", "explicit"), path)
    assert [p.name for p in tmp_path.iterdir()] == ["model.lp"]
    assert path.read_text() == "what was there"


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are of Unix")
def test_a_full_disk_is_told_of(tmp_path):
    """HiGHS itself says nothing."""
    code = f"""
import resource, numpy as np, kvopt
from tests.models.test_placement import SPECIAL, special, two_blocks
instance = two_blocks("exclusive", "explicit")
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
kvopt.export_model(instance, {str(tmp_path / "model.lp")!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "KvoptError: path: cannot write" in done.stderr
    assert not list(tmp_path.iterdir())
