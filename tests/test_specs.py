"""Spec files: all that are shipped load and name their sources; bad ones are refused by file and key."""

import re
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pytest

from kvopt import platforms, spec_io
from kvopt.errors import KvoptError, PlatformError, PlatformWarning
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
        "fang2025-overlapped",
        "gb200",
        "gh200",
        "gh200-144",
        "gh200-cxl",
        "h100-pcie-nvme",
        "h100-pcie5",
        "mi300a",
        "nvme",
        "u280",
    ]


@pytest.mark.parametrize("name", platforms.names())
def test_the_tiers_of_a_preset_go_from_fast_to_slow(name):
    platform = Platform.preset(name)
    rates = platform.bandwidth_bytes_per_s
    for role in ("read", "write"):
        times = (platform.loads(role) / rates).max(axis=1)
        assert times[0] > 0
        assert (np.diff(times) > 0).all()


@pytest.mark.parametrize("name", platforms.names())
def test_presets_raise_no_doubts(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        platforms.get(name)


def test_a_file_of_ones_own_becomes_a_platform(tmp_path):
    path = written(tmp_path, GOOD)
    source = "data sheet"
    tiers = (
        Tier("hbm", 96e9, {"hbm": 1.0}, {"hbm": 1.0}, source=source),
        Tier("host", float("inf"), {"link": 1.0}, {"link": 1.0}, {"link": 2.5}, source),
    )
    expected = Platform("mine", tiers, (Channel("hbm", 4e12, source), Channel("link", 450e9, source)))
    assert Platform.from_toml(path) == Platform.from_toml(str(path)) == Platform.preset(str(path)) == expected


THIRD = '[[tiers]]\nname = "disk"\ncapacity_bytes = 1e12\nsource = "s"\nread = { link = 1 }\nwrite = { link = 1 }\n'
HUGE = "9" * 400
"""An integer that no float holds."""


@pytest.mark.parametrize("number", [2, 3, 4, 5])
def test_any_number_of_tiers_from_two(tmp_path, number):
    more = (THIRD.replace("disk", f"disk{n}").replace("1e12", "inf") for n in range(number - 2))
    platform = Platform.from_toml(written(tmp_path, GOOD + "".join(more)))
    assert [t.name for t in platform.tiers] == ["hbm", "host", "disk0", "disk1", "disk2"][:number]


def test_one_tier_is_refused(tmp_path):
    first, _, rest = GOOD.partition('[[tiers]]\nname = "host"')
    path = written(tmp_path, first + rest[rest.index("[[channels]]") :])
    with pytest.raises(PlatformError, match=r"mine\.toml: platform 'mine' tiers: .*two tiers or more, got 1"):
        Platform.from_toml(path)


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
        (
            'name = "mine"\n',
            f'name = "mine"\n{THIRD}',
            "tiers 'hbm': read",
            "4.00 TB/s it is faster than 'disk' before it",
        ),
        (
            "450e9",
            "9e12",
            "tiers 'host': read",
            "faster than 'hbm' before it, at 4.00 TB/s. List the tiers from fast to",
        ),
        ("write = { hbm = 1.0 }", 'write = { hbm = 1.0 }\nnext = "host"', "tiers 'hbm': next", "no such key"),
        ("{ hbm = 1.0 }", "{ host = 1.0 }", "tier 'hbm' read['host']", "no such channel. Known channels: hbm, link"),
        (
            "{ hbm = 1.0 }",
            "{}",
            "tiers 'hbm': read",
            "loads no channel, so that it would take no time. Name the channels",
        ),
        ("{ hbm = 1.0 }", "{ hbm = 0 }", "tiers 'hbm': read", "loads no channel"),
        (
            "{ hbm = 1.0 }",
            "{ hbm = 4e12 }",
            "tiers 'hbm': read.hbm",
            "4000000000000.0 is too large to be bytes per byte",
        ),
        ("{ hbm = 1.0 }", f"{{ hbm = {HUGE} }}", "tiers 'hbm': read.hbm", "9999... is too large to be bytes per byte"),
        ("{ hbm = 1.0 }", "{ hbm = inf }", "tiers 'hbm': read.hbm", "inf is too large to be bytes per byte"),
        ("{ hbm = 1.0 }", "{ hbm = nan }", "tier 'hbm' read['hbm']", "must be 0 or more, got nan"),
        (
            "96e9",
            HUGE,
            "tiers 'hbm': capacity_bytes",
            "is too large to be bytes. Give bytes, for example 96e9 for 96 GB, or inf",
        ),
        ("96e9", f"-{HUGE}", "tiers 'hbm': capacity_bytes", "must be greater than 0, got -9999"),
        ("96e9", "96e18", "tiers 'hbm': capacity_bytes", "9.6e+19 is too large to be bytes"),
        ("96e9", "0x1" + "0" * 4000, "tiers 'hbm': capacity_bytes", "a number of thousands of digits is too large"),
        ("96e9", "[96e9]", "tiers 'hbm': capacity_bytes", "must be a number, got [96000000000.0]"),
        ("96e9", "1979-05-27", "tiers 'hbm': capacity_bytes", "must be a number, got datetime.date(1979, 5, 27)"),
        (
            "450e9",
            HUGE,
            "channels 'link': bandwidth_bytes_per_s",
            "is too large to be bytes per second. Give bytes per second,",
        ),
        ("96e9", "9" * 5000, "", "is not TOML"),
        ("96e9", "[" * 5000, "", "is not TOML"),
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


@pytest.mark.parametrize(
    ("old", "new", "key", "words"),
    [
        (
            "= inf",
            "= 48e9",
            "tiers 'host': capacity_bytes",
            "holds 48.0 GB, less than the 96.0 GB of 'hbm'. Check both",
        ),
        (
            "[[channels]]",
            '[[channels]]\nname = "out"\nbandwidth_bytes_per_s = 1e9\nsource = "s"\n[[channels]]',
            "channels 'out'",
            "no tier loads it. Name it in read or write",
        ),
    ],
)
def test_what_was_probably_not_meant_is_warned_of(tmp_path, old, new, key, words):
    path = written(tmp_path, GOOD.replace(old, new, 1))
    with pytest.warns(PlatformWarning, match=re.escape(f"{path}: {key}: ") + ".*" + re.escape(words)):
        assert Platform.from_toml(path).name == "mine"


@pytest.mark.parametrize("tiers", ["tiers = 3", "tiers = []", "tiers = [1]"])
def test_tiers_that_are_no_tables_are_refused(tmp_path, tiers):
    with pytest.raises(PlatformError, match=r"mine\.toml: tiers: must be one or more tables. Write each as \[\[tiers"):
        Platform.from_toml(written(tmp_path, f'name = "mine"\n{tiers}\n'))


@pytest.mark.parametrize("load", [Platform.from_toml, ModelSpec.from_toml])
def test_a_file_that_cannot_be_read_is_named(tmp_path, load):
    with pytest.raises(KvoptError, match=r"none\.toml: it does not exist"):
        load(tmp_path / "none.toml")
    with pytest.raises(KvoptError, match="it is a directory"):
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
