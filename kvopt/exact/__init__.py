"""The exact engine: the placement model solved by HiGHS, and its linear relaxation as a bound."""

from kvopt.exact.export import ModelFile, export_model
from kvopt.exact.highs import LpSolver
from kvopt.exact.layout import column_count
from kvopt.exact.parts import refine
from kvopt.exact.solver import Backend, lp_bound, solve_exact

__all__ = ["Backend", "LpSolver", "ModelFile", "column_count", "export_model", "lp_bound", "refine", "solve_exact"]
