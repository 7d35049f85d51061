"""The formulations, one Pyomo file each, readable like the paper's page. Installed as ``kvopt.models``."""
