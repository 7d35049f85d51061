"""Every claim of speed or quality has a command here that prints it: ``python -m tests.benchmarks.<name>``."""
