"""Fang et al., Accelerating LLM Inference via Dynamic KV Cache Placement in Heterogeneous Memory System.

IEEE CAL 2025, arXiv 2508.13231. Decoding 10,239 tokens after a prompt of 31,299 in 32 layers, of which each slot reads
a share; HBM has room for some 16,600 tokens of each layer. The published seconds are those of the first author's public
simulator and plot data, github.com/fangyunh/Data_Placement_Optimization.

What is ours: the synthetic workload follows the published rule as far as it is told (:mod:`kvopt.sources.published`),
and the real trace behind the published table by sparsity is not public. Rows of the middle variation stand in for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from kvopt.instance import Instance, Rules
from kvopt.platform import Platform
from kvopt.sources.embedded import example_trace
from kvopt.sources.published import recent_and_scattered
from kvopt.sources.skipping import skipping
from kvopt.studies.study import Method, Row, Scale, Setting
from kvopt.trace import Trace

PROMPT, STEPS, LAYERS = 31_299, 10_239, 32
WEIGHT_BYTES_PER_SLOT = 162.9e6
MULTI_HEAD_BYTES, GROUPED_QUERY_BYTES = 16_384, 4_096
"""Keys and values of a token in a layer: as the published evaluation has them, and as the model's attention does."""
HBM_BYTES = 23 * 2**30 - 16e9
LARGER_HBM_BYTES = 25 * 2**30 - 16e9

_START = MappingProxyType({"window_steps": 5, "ratio": 0.5})
_REFILLED = "HBM refilled free at every tenth of the steps: the time of no placement"
_PLACEHOLDER = "the published number is ideal plus a constant: a placeholder"
_BY_SPARSITY = {
    40: (189.696, 147.857, 95.907, 40.305, 31.905),
    50: (166.796, 117.065, 69.836, 34.250, 28.250),
    60: (140.008, 85.946, 47.735, 25.699, 24.596),
    80: (76.145, 31.043, 19.619, 17.350, 16.887),
    85: (58.188, 21.430, 16.205, 15.483, 14.859),
    90: (39.513, 15.718, 13.774, 13.635, 13.432),
}
"""Seconds by sparsity in percent, of the real trace: static, reactive, page, SA-guided, ideal."""
_BY_VARIATION = {
    "low": (165.315, 89.113, 25.148, 24.932, 24.592),
    "high": (122.304, 100.427, 65.140, 52.443, 24.611),
}
"""The same at 60 %, of synthetic traces."""
_PLACEHOLDERS = (40, 50)
_RECENT = MappingProxyType({"low": 0.75, "middle": 0.375, "high": 0.125})
"""Recent tokens that are all read, as a share of what is read: at 60 % the floors of 0.7 and 0.95, and one between."""
_PAPER = Rules("inclusive", "read-through", "balanced")
_PAID = Rules("inclusive", "explicit", "balanced")
"""What moves up is read once more for it, as the simulator's sum of external seconds may be read."""


@dataclass(frozen=True)
class _Variant:
    """What differs from the published setting.

    Parameters
    ----------
    rules : Rules
    platform : str
    token_bytes : int
        Of a token in a layer.
    hbm_bytes : float
    batch : int
        Sequences that read alike.
    layers_alike : bool
    workload : str
        "scattered", "skipped" or "captured".
    swapped : float
        Share of the drawn tokens that is exchanged in each step; 0 for one token.
    """

    rules: Rules = _PAPER
    platform: str = "fang2025"
    token_bytes: int = MULTI_HEAD_BYTES
    hbm_bytes: float = HBM_BYTES
    batch: int = 1
    layers_alike: bool = True
    workload: str = "scattered"
    swapped: float = 0.05


_PUBLISHED = "published"
_VARIANTS = {
    _PUBLISHED: _Variant(),
    "10 % swapped": _Variant(swapped=0.1),
    "20 % swapped": _Variant(swapped=0.2),
    "skipped sets, one swapped": _Variant(workload="skipped", swapped=0.0),
    "skipped sets, 10 % swapped": _Variant(workload="skipped", swapped=0.1),
    "layers differ": _Variant(layers_alike=False),
    "25 GiB": _Variant(hbm_bytes=LARGER_HBM_BYTES),
    "overlapped": _Variant(platform="fang2025-overlapped"),
    "paid moves": _Variant(_PAID),
    "paid moves, 10 % swapped": _Variant(_PAID, swapped=0.1),
    "exclusive": _Variant(Rules("exclusive", "explicit")),
    "grouped-query": _Variant(token_bytes=GROUPED_QUERY_BYTES),
    "grouped-query, batch 4": _Variant(token_bytes=GROUPED_QUERY_BYTES, batch=4),
    "grouped-query, batch 16": _Variant(token_bytes=GROUPED_QUERY_BYTES, batch=16),
    "captured": _Variant(workload="captured"),
}
_FREEDOM = (
    "10 % swapped",
    "20 % swapped",
    "skipped sets, one swapped",
    "skipped sets, 10 % swapped",
    "25 GiB",
    "paid moves",
    "paid moves, 10 % swapped",
)
"""What the publication leaves open: its generator's numbers and way of drawing, which of two capacities, and whether
what moves up while it is read is read once or twice. It tells of swaps up to a tenth of the set; a fifth is here to see
what it would have to be."""

_HIGH_ALONE = ("20 % swapped", "skipped sets, 10 % swapped")
"""At low variation nothing is left for these to say."""


@dataclass(frozen=True)
class Fang2025:
    """The study."""

    name: str = "fang2025"
    title: str = "Dynamic KV cache placement, with and without proof"
    reference: str = "Fang et al., IEEE CAL 2025, arXiv 2508.13231"

    @property
    def scales(self) -> Mapping[str, Scale]:
        return {
            "full": Scale("full", 1.0, bound_s=900.0, anneal_s=900.0, search_s=3600.0, side_by_side=False),
            "tenth": Scale("tenth", 0.1, bound_s=8.0, anneal_s=12.0, search_s=10.0),
            "hundredth": Scale("hundredth", 0.01, bound_s=2.0, anneal_s=2.0, search_s=2.0),
        }

    def settings(self, scale: Scale) -> Sequence[Setting]:
        """60 % by variation first, then by sparsity, then what the assumptions are worth."""
        points = [(60, variation, _PUBLISHED) for variation in ("low", "high", "middle")]
        points += [(sparsity, "middle", _PUBLISHED) for sparsity in _BY_SPARSITY if sparsity != 60]
        points += [(60, "low", variant) for variant in _FREEDOM if variant not in _HIGH_ALONE]
        points += [(60, "high", variant) for variant in _VARIANTS if variant != _PUBLISHED]
        return tuple(_setting(*point, scale) for point in points)

    def instance(self, setting: Setting, scale: Scale, seed: int) -> Instance:
        """At a scale, steps, tokens, weights and HBM are that share of the published ones; layers, sizes of tokens and
        rates stay."""
        variant, share = _VARIANTS[setting.labels["variant"]], scale.share
        trace = _trace(variant, setting.labels["sparsity"] / 100, setting.labels["variation"], share, seed)
        weights, hbm = WEIGHT_BYTES_PER_SLOT * share, variant.hbm_bytes * share
        if variant.workload == "captured":
            # The ratios of the published setting, in the trace's own size.
            tokens = (PROMPT + STEPS / 2) * MULTI_HEAD_BYTES * LAYERS
            hbm = variant.hbm_bytes * trace.summary()["peak_live_bytes"] / tokens
            weights = WEIGHT_BYTES_PER_SLOT * trace.summary()["mean_read_bytes_per_slot"] / _mean_read_bytes()
        block = int(trace.size_bytes[0])
        platform = Platform.preset(variant.platform).with_capacity(float(hbm // block * block))
        return Instance(trace, platform, variant.rules, weight_bytes_per_slot=weights, batch=variant.batch)

    def publish(self, rows: Sequence[Row], scale: Scale, out: Path) -> list[Path]:
        from kvopt.studies.fang2025_page import write

        return write(self, rows, scale, out)


def _setting(sparsity: int, variation: str, variant: str, scale: Scale) -> Setting:
    published = _BY_SPARSITY[sparsity] if variation == "middle" else _BY_VARIATION[variation]
    compared = variant in (_PUBLISHED, *_FREEDOM)
    static, reactive, page, guided, ideal = published if compared else (None,) * 5
    placeholder = _PLACEHOLDER if variation == "middle" and sparsity in _PLACEHOLDERS else ""
    # Layers that read alike are searched by one of them.
    alike = _VARIANTS[variant].layers_alike and variant != "captured"
    searching = {"search_lanes": 1} if alike else {}
    methods = [
        Method("static", "static-oldest", published_s=static),
        Method("static-hottest", "static-hottest", remark="a fair static rule: the most read stay"),
        Method("reactive-lru", "lru", published_s=reactive, remark="as the paper has it"),
        Method("reactive-flush", "reactive-flush", published_s=reactive, remark="as its simulator has it"),
        Method("page", "page", {"whole": False}, page, "of a page what is being read, in the layer that lacks it"),
        Method("page-whole", "page", {}, page, "whole pages, in the layer that lacks them"),
    ]
    # At the published size all layers' would be some 10^9 stays in HBM, for which there is no memory.
    if alike or scale.share < 1 or variant == "captured":
        remark = "each layer has its own HBM" + (f": one layer, times {LAYERS}" if alike else "")
        own = Method("reactive-flush-own", "reactive-flush", {"pooled": False}, reactive, remark, one_lane=alike)
        methods.insert(4, own)
    if variant == _PUBLISHED and sparsity == 60 and variation != "middle" and scale.share < 1:
        # It takes longer than all others together.
        methods += [Method("page-all-layers", "page", {"all_lanes": True}, page, "whole pages, in all layers")]
    if compared:
        methods += [Method("sa-start", "look-ahead", dict(_START), guided, "where the published search begins")]
    methods += [Method("sa-guided", "guided", searching, guided, placeholder)]
    if variant == _PUBLISHED:
        methods += [Method("sa-guided-refilled", "look-ahead", {}, guided, _REFILLED, 10, "sa-guided")]
    key = f"{sparsity} %, {variation}" + ("" if variant == _PUBLISHED else f", {variant}")
    return Setting(key, {"sparsity": sparsity, "variation": variation, "variant": variant}, tuple(methods), ideal)


def _trace(variant: _Variant, sparsity: float, variation: str, share: float, seed: int, layers: int = LAYERS) -> Trace:
    size = variant.token_bytes * variant.batch
    if variant.workload == "captured":
        return example_trace()
    prompt = round(PROMPT * share)
    tokens = {"prompt_tokens": prompt, "n_steps": round(STEPS * share), "n_lanes": layers}
    every = {"independent_lanes": not variant.layers_alike, "size_bytes": size, "seed": seed}
    floor = 1 - (1 - sparsity) * _RECENT[variation]
    if variant.workload == "skipped":
        swapped = variant.swapped or 1 / (sparsity * prompt)
        return skipping(**tokens, **every, sparsity=sparsity, ceiling=floor, swap_share=swapped)
    return recent_and_scattered(**tokens, **every, read_share=1 - sparsity, floor=floor, swap_share=variant.swapped)


def _mean_read_bytes() -> float:
    """Of a published slot at 60 %."""
    return 0.4 * (PROMPT + STEPS / 2) * MULTI_HEAD_BYTES


STUDY = Fang2025()
