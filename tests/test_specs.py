"""Spec files: all that are shipped load and name their sources; bad ones are refused by file and key."""

import re
import tomllib
from pathlib import Path

import pytest

from kvopt import platforms, spec_io
from kvopt.errors import KvoptError, PlatformError
from kvopt.model_spec import ModelSpec
from kvopt.platform import Channel, Platform, Tier

FILES = [path for kind in ("platforms", "models") for path in spec_io.shipped(kind).values()]
LOADS = ("read", "write", "move_out")
"""Bytes per byte say how a machine is wired; no data sheet gives them."""

GOOD = """
name = "mine"

[[tiers]]
name = "hbm"
capacity_bytes = 96e9
source = "data sheet"
read = { hbm = 1.0 }
write = { hbm = 1.0 }

[[tiers]]
name = "host"
capacity_bytes = inf
source = "data sheet"
read = { link = 1 }
write = { link = 1 }
move_out = { link = 2.5 }

[[channels]]
name = "hbm"
bandwidth_bytes_per_s = 4_000_000_000_000
source = "data sheet"

[[channels]]
name = "link"
bandwidth_bytes_per_s = 450e9
source = "data sheet"
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def tables_without_source(value, where="") -> list[str]:
    """Places of the tables that hold a number but no source."""
    if isinstance(value, list):
        return [place for n, item in enumerate(value) for place in tables_without_source(item, f"{where}[{n}]")]
    if not isinstance(value, dict):
        return []
    has_number = any(isinstance(v, int | float) and not isinstance(v, bool) for v in value.values())
    bare = [where] if has_number and not value.get("source", "").strip() else []
    deeper = [tables_without_source(v, f"{where}.{key}") for key, v in value.items() if key not in LOADS]
    return bare + [place for places in deeper for place in places]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_number_shipped_has_a_source(path):
    assert tables_without_source(tomllib.loads(path.read_text(encoding="utf-8"))) == []


def test_a_number_without_a_source_would_be_found():
    assert tables_without_source({"tiers": [{"capacity_bytes": 1.0, "source": " "}]}) == [".tiers[0]"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_is_named_like_what_it_holds(path):
    load = Platform if path.parent.name == "platforms" else ModelSpec
    assert load.from_toml(path) == load.preset(path.stem)
    assert load.preset(path.stem).name == path.stem
    assert load.preset(path.stem).description


def test_the_platforms_on_offer():
    assert platforms.names() == [
        "cxl-expander",
        "fang2025",
        "gb200",
        "gh200",
        "gh200-144",
        "h100-pcie5",
        "mi300a",
        "nvme",
        "u280",
    ]


@pytest.mark.parametrize("name", platforms.names())
def test_the_first_tier_of_a_preset_is_the_faster_one(name):
    platform = Platform.preset(name)
    rates = platform.bandwidth_bytes_per_s
    for role in ("read", "write"):
        fast, backing = (platform.loads(role) / rates).max(axis=1)
        assert 0 < fast < backing


def test_gh200_and_fang2025_are_what_they_were():
    gh200 = "NVIDIA GH200 Grace Hopper Superchip data sheet, 96 GB HBM3 variant"
    fang = "Fang et al., IEEE CAL 2025, arXiv 2508.13231, evaluation setup"
    for name, host, source, numbers, description in (
        (
            "gh200",
            "lpddr",
            gh200,
            (96e9, 4e12, 480e9, 512e9),
            "GH200: 96 GB HBM3 at 4 TB/s, 480 GB LPDDR5X at up to 512 GB/s, NVLink-C2C 900 GB/s (450 each way)",
        ),
        (
            "fang2025",
            "dram",
            fang,
            (24e9, 4.9e12, 480e9, 500e9),
            "The published evaluation: 24 GB HBM at 4.9 TB/s, 480 GB DRAM at 500 GB/s, link 450 GB/s each way",
        ),
    ):
        capacity, rate, host_capacity, host_rate = numbers
        tiers = (
            Tier("hbm", capacity, {"hbm": 1.0}, {"hbm": 1.0}, source=source),
            Tier(host, host_capacity, {host: 1.0, "link_in": 1.0}, {host: 1.0, "link_out": 1.0}, source=source),
        )
        rates = (("hbm", rate), ("link_in", 450e9), ("link_out", 450e9), (host, host_rate))
        expected = Platform(name, tiers, tuple(Channel(n, r, source) for n, r in rates))
        assert Platform.preset(name) == expected
        assert Platform.preset(name).description == description


def test_a_file_of_ones_own_becomes_a_platform(tmp_path):
    path = written(tmp_path, GOOD)
    source = "data sheet"
    tiers = (
        Tier("hbm", 96e9, {"hbm": 1.0}, {"hbm": 1.0}, source=source),
        Tier("host", float("inf"), {"link": 1.0}, {"link": 1.0}, {"link": 2.5}, source),
    )
    expected = Platform("mine", tiers, (Channel("hbm", 4e12, source), Channel("link", 450e9, source)))
    assert Platform.from_toml(path) == Platform.from_toml(str(path)) == Platform.preset(str(path)) == expected


@pytest.mark.parametrize(
    ("old", "new", "key", "words"),
    [
        ('name = "mine"\n', "", "name", "is missing"),
        ('name = "mine"', "name = 3", "name", "must be a string, got 3"),
        ('name = "mine"', 'name = "mine"\nnmae = 1', "nmae", "no such key. Known keys: name, description, tiers"),
        ("capacity_bytes = 96e9\n", "", "tiers 'hbm': capacity_bytes", "is missing. Give bytes, for example 96e9"),
        ("capacity_bytes", "capacity_gb", "tiers 'hbm': capacity_gb", "no such key. Known keys: name, capacity_bytes"),
        ("96e9", '"96GB"', "tiers 'hbm': capacity_bytes", "must be a number, got '96GB'. Give bytes, for example 96e9"),
        ("96e9", "96", "tiers 'hbm': capacity_bytes", "96 is too small to be bytes. Give bytes, for example 96e9"),
        ("96e9", "-96e9", "tiers 'hbm': capacity_bytes", "greater than 0, got -96000000000.0"),
        ("96e9", "nan", "tiers 'hbm': capacity_bytes", "greater than 0, got nan"),
        ("96e9", "true", "tiers 'hbm': capacity_bytes", "must be a number, got True"),
        ("450e9", "0", "channels 'link': bandwidth_bytes_per_s", "finite and greater than 0, got 0"),
        ("450e9", "-1e9", "channels 'link': bandwidth_bytes_per_s", "finite and greater than 0, got -1"),
        ("450e9", "inf", "channels 'link': bandwidth_bytes_per_s", "finite and greater than 0, got inf"),
        ("450e9", "450", "channels 'link': bandwidth_bytes_per_s", "450 is too small to be bytes per second"),
        ('source = "data sheet"\n', "", "tiers 'hbm': source", "is missing"),
        ('source = "data sheet"\n', 'source = " "\n', "tiers 'hbm': source", "is empty"),
        ("{ link = 2.5 }", "{ lnik = 2.5 }", "tier 'host' move_out['lnik']", "no such channel. Known channels: hbm,"),
        ("{ link = 2.5 }", "{ link = -1 }", "tier 'host' move_out['link']", "must be 0 or more"),
        ("{ link = 2.5 }", "1", "tiers 'host': move_out", "must be a table, got 1"),
        ("{ link = 2.5 }", '{ link = "1" }', "tiers 'host': move_out.link", "must be a number, got '1'"),
        ('name = "host"', 'name = "hbm"', "tiers", "names repeat: ['hbm', 'hbm']. Give each its own name"),
        ('name = "link"', 'name = "hbm"', "channels", "names repeat"),
        ("[[channels]]", "[channels]", "", "is not TOML"),
        ('name = "mine"', "name =", "", "is not TOML"),
        ('name = "mine"\n', 'name = "mine"\ntiers = 3\n#', "tiers", "is not TOML"),
    ],
)
def test_a_bad_platform_is_refused_by_file_and_key(tmp_path, old, new, key, words):
    assert old in GOOD
    path = written(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(PlatformError, match=re.escape(words)) as caught:
        Platform.from_toml(path)
    assert caught.value.field.startswith(str(path))
    if "TOML" not in words:
        assert caught.value.field.endswith(key)
    assert caught.value.fix


@pytest.mark.parametrize("tiers", ["tiers = 3", "tiers = []", "tiers = [1]"])
def test_tiers_that_are_no_tables_are_refused(tmp_path, tiers):
    with pytest.raises(PlatformError, match=r"mine\.toml: tiers: must be one or more tables. Write each as \[\[tiers"):
        Platform.from_toml(written(tmp_path, f'name = "mine"\n{tiers}\n'))


@pytest.mark.parametrize("load", [Platform.from_toml, ModelSpec.from_toml])
def test_a_file_that_cannot_be_read_is_named(tmp_path, load):
    with pytest.raises(KvoptError, match=r"none\.toml: cannot be read: No such file"):
        load(tmp_path / "none.toml")
    with pytest.raises(KvoptError, match="cannot be read: Is a directory"):
        load(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(KvoptError, match=r"binary\.toml: is not TOML"):
        load(tmp_path / "binary.toml")


def test_a_wheel_holds_the_specs():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    setuptools = project["tool"]["setuptools"]
    for folder in {path.parent for path in FILES}:
        package = f"kvopt.specs.{folder.name}"
        assert package in setuptools["packages"]
        assert setuptools["package-data"][package] == ["*.toml"]
