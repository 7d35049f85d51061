"""``python -m kvopt``: the same as the command ``kvopt``."""

from kvopt.cli import main

if __name__ == "__main__":
    main(prog_name="kvopt")
