"""Simulated annealing of whole residency paths."""

from kvopt.anneal.schedule import Schedule
from kvopt.anneal.solver import Move, solve_anneal

__all__ = ["Move", "Schedule", "solve_anneal"]
