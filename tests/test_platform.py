"""Platforms: validation, load tables, presets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvopt import platforms
from kvopt.errors import PlatformError
from kvopt.platform import Channel, Platform, Tier

BUS, LINK = Channel("bus", 4e12), Channel("link", 5e11)
FAST = Tier("fast", 1e9, read={"bus": 1.0}, write={"bus": 2.0})
SLOW = Tier("slow", np.inf, read={"link": 1.0, "bus": 0.5}, write={"link": 1.0}, move_out={"link": 3.0})


def test_loads_are_tables_of_tier_by_channel():
    platform = Platform("two", (FAST, SLOW), (BUS, LINK))
    np.testing.assert_array_equal(platform.loads("read"), [[1.0, 0.0], [0.5, 1.0]])
    np.testing.assert_array_equal(platform.loads("write"), [[2.0, 0.0], [0.0, 1.0]])
    np.testing.assert_array_equal(platform.loads("move_out"), [[1.0, 0.0], [0.0, 3.0]])  # Defaults to read.
    np.testing.assert_array_equal(platform.bandwidth_bytes_per_s, [4e12, 5e11])


@pytest.mark.parametrize("rate", [0.0, -1.0, np.nan, np.inf])
def test_a_channel_needs_a_finite_positive_rate(rate):
    with pytest.raises(PlatformError, match=r"'bus' bandwidth_bytes_per_s: .* got .*Give bytes per second"):
        Channel("bus", rate)


@pytest.mark.parametrize("capacity", [-1.0, np.nan])
def test_a_tier_refuses_negative_capacity(capacity):
    with pytest.raises(PlatformError, match=r"tier 'fast' capacity_bytes"):
        Tier("fast", capacity, read={}, write={})


@pytest.mark.parametrize(
    ("tiers", "channels", "words"),
    [
        ((FAST,), (BUS, LINK), "two tiers or more, got 1"),
        ((FAST, FAST), (BUS, LINK), "names repeat"),
        ((FAST, SLOW), (BUS, BUS), "names repeat"),
        ((FAST, SLOW), (BUS,), r"tier 'slow' read\['link'\]: no such channel. Known channels: bus"),
        ((Tier("fast", 1.0, read={"bus": -1.0}, write={}), SLOW), (BUS, LINK), r"read\['bus'\]: must be 0 or more"),
        ((Tier("fast", 1.0, read={}, write={"bus": np.nan}), SLOW), (BUS, LINK), r"write\['bus'\]: must be 0 or more"),
    ],
)
def test_a_platform_that_contradicts_itself_is_refused(tiers, channels, words):
    with pytest.raises(PlatformError, match=words):
        Platform("wrong", tiers, channels)


def test_with_capacity_changes_that_tier_alone():
    platform = Platform("two", (FAST, SLOW), (BUS, LINK))
    assert [t.capacity_bytes for t in platform.with_capacity(5.0).tiers] == [5.0, np.inf]
    assert [t.capacity_bytes for t in platform.with_capacity(7.0, tier=1).tiers] == [1e9, 7.0]
    assert platform.tiers[0].capacity_bytes == 1e9


@pytest.mark.parametrize(
    ("name", "capacities", "rates"),
    [
        ("gh200", (96e9, 480e9), {"hbm": 4e12, "link_in": 450e9, "link_out": 450e9, "lpddr": 384e9}),
        ("gh200-144", (144e9, 480e9), {"hbm": 4.9e12, "link_in": 450e9, "link_out": 450e9, "lpddr": 384e9}),
        ("gb200", (186e9, 240e9), {"hbm": 8e12, "link_in": 225e9, "link_out": 225e9, "lpddr": 192e9}),
        ("fang2025-overlapped", (24e9, 480e9), {"hbm": 4.9e12, "link_in": 450e9, "link_out": 450e9, "dram": 500e9}),
        (
            "fang2025",
            (24e9, 480e9),
            {"hbm": 4.9e12, "ext_link_out": 450e9, "ext_dram": 450e9, "ext_link_in": 450e9},
        ),
        ("u280", (8e9, 32e9), {"hbm": 460e9, "ddr": 38.4e9}),
        ("mi300a", (128e9, 128e9), {"hbm": 5.3e12, "link_in": 128e9, "link_out": 128e9, "neighbour": 5.3e12}),
    ],
)
def test_presets_have_the_published_numbers(name, capacities, rates):
    platform = Platform.preset(name)
    assert tuple(t.capacity_bytes for t in platform.tiers) == capacities
    assert {c.name: c.bandwidth_bytes_per_s for c in platform.channels} == rates
    assert all(c.source for c in platform.channels)
    assert all(t.source for t in platform.tiers)


THREE_TIERS = ("gh200-cxl", "h100-pcie-nvme")
NO_LINK = ("fang2025", "nvme", "u280")


@pytest.mark.parametrize("name", [name for name in platforms.names() if name not in THREE_TIERS + NO_LINK])
def test_presets_read_the_backing_tier_through_its_bus_and_the_link(name):
    platform = Platform.preset(name)
    host = platform.tiers[1].name
    names = [c.name for c in platform.channels]
    by_name = {role: dict(zip(names, platform.loads(role)[1], strict=True)) for role in ("read", "write")}
    assert by_name["read"] == {"hbm": 0, "link_in": 1, "link_out": 0, host: 1}
    assert by_name["write"] == {"hbm": 0, "link_in": 0, "link_out": 1, host: 1}
    assert list(platform.loads("read")[0]) == list(platform.loads("write")[0]) == [1, 0, 0, 0]


def test_every_preset_but_two_has_two_tiers():
    assert tuple(n for n in platforms.names() if len(Platform.preset(n).tiers) != 2) == THREE_TIERS
    assert [len(Platform.preset(n).tiers) for n in THREE_TIERS] == [3, 3]


def loaded(platform: Platform, role: str, tier: int) -> dict[str, float]:
    """The channels one byte loads, those at rest left out."""
    names = (c.name for c in platform.channels)
    return {name: load for name, load in zip(names, platform.loads(role)[tier], strict=True) if load}


def test_an_expander_is_read_over_its_own_link_and_the_shared_one():
    platform = Platform.preset("gh200-cxl")
    assert loaded(platform, "read", 1) == {"link_in": 1, "lpddr": 1}
    assert loaded(platform, "read", 2) == loaded(platform, "move_out", 2) == {"link_in": 1, "cxl_in": 1, "cxl": 1}
    assert loaded(platform, "write", 2) == {"link_out": 1, "cxl_out": 1, "cxl": 1}


@settings(deadline=None)
@given(st.tuples(*[st.floats(0, 1e9)] * 4))
def test_the_published_simulator_reads_first_and_then_writes_and_moves(sizes):
    """Its formula, beside the channels that stand for it; without moves down, which are free where copies stay."""
    read_hbm, read, write, move = sizes
    platform = Platform.preset("fang2025")
    roles = {role: platform.loads(role) for role in ("read", "write", "move_out")}
    load = read_hbm * roles["read"][0] + read * roles["read"][1] + write * roles["write"][1]
    load += move * (roles["move_out"][1] + roles["write"][0])
    t_hbm = (read_hbm + move) / 4.9e12
    t_ext = read / min(450e9, 500e9) + max(write / 450e9, (write + move) / 500e9, move / 450e9)
    assert (load / platform.bandwidth_bytes_per_s).max() == pytest.approx(max(t_hbm, t_ext), rel=1e-12)


def test_a_disk_is_staged_in_host_memory_and_shares_its_link():
    platform = Platform.preset("h100-pcie-nvme")
    assert loaded(platform, "read", 1) == {"link_in": 1, "ddr": 1}
    assert loaded(platform, "read", 2) == loaded(platform, "move_out", 2) == {"link_in": 1, "ddr": 2, "ssd_read": 1}
    assert loaded(platform, "write", 2) == {"link_out": 1, "ddr": 2, "ssd_write": 1}


def test_an_unknown_preset_names_the_known_ones():
    with pytest.raises(PlatformError, match=r"no preset 'h100'. Choose one of: .*fang2025.*gh200.*\.toml file"):
        Platform.preset("h100")
