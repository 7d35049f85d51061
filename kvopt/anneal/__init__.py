"""Simulated annealing of whole residency paths."""

from kvopt.anneal.solver import Move, Schedule, solve_anneal

__all__ = ["Move", "Schedule", "solve_anneal"]
