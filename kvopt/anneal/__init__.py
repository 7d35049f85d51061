"""Simulated annealing of whole residency paths."""

from kvopt.anneal.solver import GUIDE_TAU, Move, Schedule, solve_anneal

__all__ = ["GUIDE_TAU", "Move", "Schedule", "solve_anneal"]
