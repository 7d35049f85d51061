"""A copy of the checkout is imported whole in place of this one, its entry points included."""

import json
import os
import subprocess
import sys

from tests.checkouts import ROOT, unpacked

_SCRIPT = """
import json, kvopt, kvopt.models.placement as page
from importlib import metadata
points = [p for p in metadata.entry_points(group="kvopt.policies")]
print(json.dumps([kvopt.__file__, page.__file__, [p.dist.version for p in points]]))
"""


def test_a_copy_takes_the_place_of_the_checkout(tmp_path):
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    version = pyproject.split('version = "')[1].split('"')[0]
    site = unpacked(ROOT, tmp_path / "site")
    (info,) = site.glob("*.dist-info")
    metadata = (info / "METADATA").read_text(encoding="utf-8")
    (info / "METADATA").write_text(metadata.replace(version, "9.9"), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-P", "-c", _SCRIPT],
        env={**os.environ, "PYTHONPATH": str(site)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    package, page, versions = json.loads(done.stdout)
    assert package == str(site / "kvopt" / "__init__.py")
    assert page == str(site / "kvopt" / "models" / "placement.py")
    assert set(versions) == {"9.9"}
