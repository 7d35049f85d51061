"""Named platforms. Every number carries its source."""

from __future__ import annotations

from kvopt.errors import PlatformError
from kvopt.platform import Channel, Platform, Tier

_GH200 = "NVIDIA GH200 Grace Hopper Superchip data sheet, 96 GB HBM3 variant"
_FANG = "Fang et al., IEEE CAL 2025, arXiv 2508.13231, evaluation setup"


def _hbm_and_host(
    name: str,
    description: str,
    source: str,
    hbm: tuple[float, float],
    host: tuple[str, float, float],
    link_each_way: float,
) -> Platform:
    """One accelerator's HBM and a host memory behind a full-duplex link.

    ``hbm`` and ``host`` end in (capacity in bytes, bandwidth in bytes/s). The host bus is shared by both directions;
    each direction of the link is a channel of its own.
    """
    host_name, host_capacity, host_bandwidth = host
    return Platform(
        name=name,
        description=description,
        tiers=(
            Tier("hbm", hbm[0], read={"hbm": 1.0}, write={"hbm": 1.0}, source=source),
            Tier(
                host_name,
                host_capacity,
                read={host_name: 1.0, "link_in": 1.0},
                write={host_name: 1.0, "link_out": 1.0},
                source=source,
            ),
        ),
        channels=(
            Channel("hbm", hbm[1], source),
            Channel("link_in", link_each_way, source),
            Channel("link_out", link_each_way, source),
            Channel(host_name, host_bandwidth, source),
        ),
    )


def _gh200() -> Platform:
    return _hbm_and_host(
        "gh200",
        "GH200: 96 GB HBM3 at 4 TB/s, 480 GB LPDDR5X at up to 512 GB/s, NVLink-C2C 900 GB/s (450 each way)",
        _GH200,
        hbm=(96e9, 4e12),
        host=("lpddr", 480e9, 512e9),
        link_each_way=450e9,
    )


def _fang2025() -> Platform:
    return _hbm_and_host(
        "fang2025",
        "The published evaluation: 24 GB HBM at 4.9 TB/s, 480 GB DRAM at 500 GB/s, link 450 GB/s each way",
        _FANG,
        hbm=(24e9, 4.9e12),
        host=("dram", 480e9, 500e9),
        link_each_way=450e9,
    )


_PRESETS = {"gh200": _gh200, "fang2025": _fang2025}


def names() -> list[str]:
    """The names :func:`get` takes."""
    return list(_PRESETS)


def get(name: str) -> Platform:
    """The preset of that name.

    Raises
    ------
    PlatformError
        When there is none.
    """
    if name not in _PRESETS:
        raise PlatformError("platform", f"there is no preset {name!r}", f"Choose one of: {', '.join(_PRESETS)}")
    return _PRESETS[name]()
