"""Settings of all tests."""

from hypothesis import settings

# How long an example takes says how busy the machine is, and how many kernels it compiles first.
settings.register_profile("kvopt", deadline=None)
settings.load_profile("kvopt")
