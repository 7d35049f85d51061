"""Arrays that nobody may write to, in other processes too."""

from __future__ import annotations

from typing import Any

import numpy as np


class ReadOnlyArrays:
    """A frozen dataclass whose array fields stay read-only when it is copied or sent to another process.

    NumPy forgets it on the way. Then somebody could write to them there, and kernels, which are compiled for arrays of
    one kind or the other, would be compiled again in every process.
    """

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            if isinstance(value, np.ndarray) and name in self.__dataclass_fields__:
                value.setflags(write=False)
            object.__setattr__(self, name, value)
