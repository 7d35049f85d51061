"""The shipped policies compiled: the placements of :mod:`kvopt.policies.simulate`, by passes over one lane a slot.

A slot reads blocks of its own lane only, so a slot costs one pass over the lane's blocks, in memory order, and not one
over all blocks. What is read is told by the next step in which each block's reading begins or ends (:mod:`.reading`):
a look at a run where it begins and where it ends, none at the reads in between. Whom to evict is told by counts of the
residents with equal keys; only the blocks of the key that is cut are looked up.

Imported on use, since numba takes its time.
"""
