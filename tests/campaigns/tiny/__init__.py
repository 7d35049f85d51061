"""Tiny instances against their true optimum: ``python -m tests.campaigns.tiny --seeds 2000``.

An evaluator (:mod:`~tests.campaigns.tiny.page`) and a dynamic program (:mod:`~tests.campaigns.tiny.optimum`) written
from the mathematics alone, in whole numbers, judge every engine on instances drawn to be awkward
(:mod:`~tests.campaigns.tiny.cases`). They share no code with the engines, nor with the rest of the tests.
"""
