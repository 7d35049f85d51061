"""Lower bounds on the decode time, and the certificates that prove them."""

from kvopt.bounds.aggregate import aggregate_bound
from kvopt.bounds.certificate import verify
from kvopt.bounds.dual import dual_bound

__all__ = ["aggregate_bound", "dual_bound", "verify"]
