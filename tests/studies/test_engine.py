"""Studies run to their end, go on where they were stopped, and are in order."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import kvopt
from kvopt import studies
from kvopt.bounds.certificate import verify
from kvopt.certificate_io import load_certificate
from kvopt.errors import KvoptError, MethodError
from kvopt.result import versions
from kvopt.sources.published import recent_and_scattered
from kvopt.sources.synthetic import drifting
from kvopt.studies import FILE, Method, Scale, Setting

METHODS = (
    Method("static", "static-oldest", published_s=2.0, remark="as published"),
    Method("ahead", "look-ahead", {"window_steps": 3, "ratio": 0.5}),
    Method("guided", "guided"),
    Method("refilled", "look-ahead", slices=3, searched_by="guided"),
)


@dataclass(frozen=True)
class Small:
    """Two settings of some hundred blocks."""

    name: str = "small"
    title: str = "A small study"
    reference: str = "nobody, never"

    @property
    def scales(self) -> Mapping[str, Scale]:
        return {
            "whole": Scale("whole", 1.0, 5.0, 0.3, 5.0),
            "half": Scale("half", 0.5, 5.0, 0.3, 5.0),
            "long": Scale("long", 1.0, 5.0, 0.3, 5.0, side_by_side=False),
        }

    def settings(self, scale):
        return tuple(Setting(key, {"of": key}, METHODS, ideal_published_s=1.0) for key in ("tight", "roomy"))

    def instance(self, setting, scale, seed):
        trace = drifting(30, 12, n_lanes=2, read_share=0.3, drift=0.3, seed=seed)
        share = {"tight": 0.2, "roomy": 0.5}[setting.key]
        fast = share * trace.summary()["peak_live_bytes"]
        return kvopt.Instance(trace, kvopt.Platform.preset("gh200")).with_hbm_bytes(fast)

    def publish(self, rows, scale, out: Path):
        (out / "told.txt").write_text(str(len(rows)), encoding="utf-8")
        return [out / "told.txt"]


STUDY = Small()
POLICIES = ["unlimited", "static", "ahead", "guided", "refilled", "annealed", "bound"]


def test_every_row_is_there_and_in_order(tmp_path):
    done = studies.run(STUDY, "half", tmp_path, processes=1)
    assert done.complete
    assert [(row["setting"], row["policy"]) for row in done.rows] == [
        (s, p) for s in ("tight", "roomy") for p in POLICIES
    ]
    assert json.loads((tmp_path / FILE).read_text(encoding="utf-8")) == json.loads(json.dumps(done.to_json()))
    assert (tmp_path / "told.txt").read_text(encoding="utf-8") == "14"
    assert done.files == (tmp_path / FILE, tmp_path / "told.txt")
    for setting in STUDY.settings(STUDY.scales["half"]):
        rows = {row["policy"]: row for row in done.rows if row["setting"] == setting.key}
        instance = STUDY.instance(setting, STUDY.scales["half"], 0)
        assert rows["static"]["decode_s"] == kvopt.solve(instance, "static-oldest").objective
        assert rows["static"]["reproduced_s"] == 4 * rows["static"]["decode_s"]
        assert rows["static"]["published_s"] == 2.0
        assert rows["unlimited"]["published_s"] == 1.0
        assert rows["bound"]["role"] == "certified"
        # An optimum is below every placement, and above what no capacity limits.
        achieved = [row["reproduced_s"] for row in rows.values() if row["feasible"]]
        assert rows["unlimited"]["reproduced_s"] <= rows["bound"]["reproduced_s"] <= min(achieved)
        assert rows["annealed"]["reproduced_s"] == min(achieved)
        for row in rows.values():
            assert row["bound_s"] == rows["bound"]["reproduced_s"]
            assert (row["gap"] is not None) == row["feasible"]
        options = {name: rows["guided"]["details"][name] for name in ("window_steps", "ratio")}
        parts = [replace(instance, trace=instance.trace.window(steps)) for steps in ((0, 4), (4, 8), (8, 12))]
        by_hand = sum(kvopt.solve(part, "look-ahead", **options).objective for part in parts)
        assert rows["refilled"]["decode_s"] == pytest.approx(by_hand)
        assert (rows["refilled"]["role"], rows["refilled"]["feasible"]) == ("claimed", False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return studies.run(STUDY, "whole", tmp_path_factory.mktemp("whole"), processes=1)


@pytest.mark.parametrize("missing", ["static", "guided", "annealed", "bound"])
def test_only_what_is_missing_is_run(tmp_path, monkeypatch, missing, whole):
    path, ran = tmp_path / FILE, []
    data = json.loads(json.dumps(whole.to_json()))
    data["rows"] = [row for row in data["rows"] if (row["setting"], row["policy"]) != ("roomy", missing)]
    path.write_text(json.dumps(data), encoding="utf-8")
    solve = kvopt.solve

    def counted(instance, method, **options):
        ran.append(method)
        return solve(instance, method, **options)

    monkeypatch.setattr(studies.engine, "solve", counted)
    again = studies.run(STUDY, "whole", tmp_path, processes=1)
    assert again.complete
    # Annealing starts from the best of the others, which may have to be made again.
    allowed = {"static": ["static-oldest"], "guided": ["guided"], "annealed": ["look-ahead", "anneal"], "bound": []}
    assert ran == allowed[missing]
    same(whole.rows, again.rows)


def same(rows, others):
    """But for annealed ones, which a time limit cuts anywhere."""
    for one, other in zip(rows, others, strict=True):
        assert (one["setting"], one["policy"]) == (other["setting"], other["policy"])
        if one["policy"] != "annealed":
            assert one["reproduced_s"] == pytest.approx(other["reproduced_s"], rel=1e-3)


def test_settings_may_be_run_one_by_one(tmp_path, whole):
    roomy = studies.run(STUDY, "whole", tmp_path, processes=1, only=["roomy"])
    assert roomy.complete
    assert {row["setting"] for row in roomy.rows} == {"roomy"}
    both = studies.run(STUDY, "whole", tmp_path, processes=1, only=["tight"])
    assert both.complete
    same(whole.rows, both.rows)
    with pytest.raises(KvoptError, match=r"setting: there is no 'wide'. Choose from: tight; roomy"):
        studies.run(STUDY, "whole", tmp_path, only=["wide"])


def test_ctrl_c_keeps_the_rows_there_are(tmp_path):
    def interrupt(key, event):
        if event.detail.startswith("bound"):
            raise KeyboardInterrupt

    cut = studies.run(STUDY, "whole", tmp_path, processes=1, on_progress=interrupt)
    assert not cut.complete
    assert [row["policy"] for row in cut.rows] == ["unlimited", "static", "ahead", "guided", "refilled"]
    assert not (tmp_path / "told.txt").exists()
    assert studies.run(STUDY, "whole", tmp_path, processes=1).complete


@pytest.mark.parametrize(
    ("broken", "lost"),
    [
        ("static-oldest", {"static"}),
        ("guided", {"guided", "refilled"}),
        ("anneal", {"annealed"}),
        ("dual", {"bound", "annealed"}),
        ("aggregate", {"unlimited"}),
    ],
)
def test_a_method_that_fails_costs_its_own_rows(tmp_path, monkeypatch, broken, lost):
    solve, dual, bound = kvopt.solve, studies.engine.dual_bound, studies.engine.bound_of

    def breaking(call, name=None):
        def called(instance, *arguments, **options):
            if (name or arguments[0]) == broken:
                raise ZeroDivisionError("by nothing")
            return call(instance, *arguments, **options)

        return called

    with monkeypatch.context() as patched:
        patched.setattr(studies.engine, "solve", breaking(solve))
        patched.setattr(studies.engine, "dual_bound", breaking(dual, "dual"))
        patched.setattr(studies.engine, "bound_of", breaking(bound, "aggregate"))
        cut = studies.run(STUDY, "half", tmp_path, processes=1)
    assert not cut.complete
    for setting in ("tight", "roomy"):
        assert [row["policy"] for row in cut.rows if row["setting"] == setting] == [
            p for p in POLICIES if p not in lost
        ]
    told = [line for line in cut.failed if line.endswith("ZeroDivisionError: by nothing")]
    assert len(told) == 2
    again = studies.run(STUDY, "half", tmp_path, processes=1)
    assert again.complete
    assert not again.failed


def test_a_long_bound_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    """The bound's row stays what it was when annealing alone is missing; --fresh takes nothing up."""
    done = studies.run(STUDY, "long", tmp_path, only=["tight"])
    kept = tmp_path / "bounds" / "tight.npz"
    instance = STUDY.instance(STUDY.settings(STUDY.scales["long"])[0], STUDY.scales["long"], 0)
    row = next(row for row in done.rows if row["policy"] == "bound")
    assert verify(instance, load_certificate(kept, instance)) == pytest.approx(row["decode_s"], rel=1e-6)
    limits = []
    dual = studies.engine.dual_bound

    def watched(instance, **options):
        limits.append((options["time_limit_s"], options["checkpoint"] == kept and kept.exists()))
        return dual(instance, **options)

    monkeypatch.setattr(studies.engine, "dual_bound", watched)
    rows = [r for r in done.rows if r["policy"] != "annealed"]
    (tmp_path / FILE).write_text(json.dumps(replace(done, rows=tuple(rows)).to_json()), encoding="utf-8")
    again = studies.run(STUDY, "long", tmp_path, only=["tight"], processes=1)
    assert again.complete
    assert row in again.rows
    studies.run(STUDY, "long", tmp_path, only=["tight"], processes=1, fresh=True)
    assert limits == [(0.5, True), (5.0, False)]


@dataclass(frozen=True)
class Alike(Small):
    """Lanes that draw once for all, and a policy that gives each its own share."""

    independent: bool = False

    def settings(self, scale):
        flush = {"method": "reactive-flush", "options": {"pooled": False}}
        methods = (Method("all", **flush), Method("one", **flush, one_lane=True), Method("static", "static-oldest"))
        return (Setting("alike", {}, methods),)

    def instance(self, setting, scale, seed):
        options = {"n_lanes": 3, "read_share": 0.4, "independent_lanes": self.independent, "seed": seed}
        trace = recent_and_scattered(60, 30, **options)
        rules = kvopt.Rules("inclusive", "read-through", "balanced")
        return kvopt.Instance(trace, kvopt.Platform.preset("gh200"), rules).with_hbm_bytes(
            90 * int(trace.size_bytes[0])
        )


@pytest.mark.parametrize("seed", [0, 1])
def test_one_lane_times_their_number_is_all_of_them(tmp_path, seed):
    rows = {row["policy"]: row for row in studies.run(Alike(), "long", tmp_path, seed=seed).rows}
    assert rows["one"]["reproduced_s"] == pytest.approx(rows["all"]["reproduced_s"], rel=1e-12)
    assert rows["one"]["kv_hit_rate"] == pytest.approx(rows["all"]["kv_hit_rate"], rel=1e-12)
    assert rows["one"]["reproduced_s"] > 1.01 * rows["bound"]["reproduced_s"]
    assert rows["annealed"]["reproduced_s"] <= min(rows["all"]["reproduced_s"], rows["static"]["reproduced_s"])


def test_one_lane_does_not_stand_for_others_that_are_read_otherwise(tmp_path):
    found = studies.run(Alike(independent=True), "long", tmp_path)
    assert any("one_lane: the lanes of 'one' are not read alike. Run" in line for line in found.failed)


def test_a_run_is_loaded_and_looked_into(tmp_path, whole):
    (tmp_path / FILE).write_text(json.dumps(whole.to_json()), encoding="utf-8")
    for path in (tmp_path, tmp_path / FILE):
        loaded = studies.load(path)
        assert loaded.rows == whole.rows
        assert (loaded.study, loaded.scale, loaded.seed, loaded.complete) == ("small", "whole", 0, True)
    frame = loaded.frame
    assert list(frame.policy) == POLICIES * 2
    assert frame.query("of == 'tight' and policy == 'static'").published_s.tolist() == [2.0]


@pytest.mark.parametrize(
    "text", ["[1]", "{", '{"rows": [{}]}', '{"rows": []}', '{"rows": [{"setting": 1, "policy": "a"}]}']
)
def test_what_is_no_run_is_not_loaded(tmp_path, text):
    (tmp_path / FILE).write_text(text, encoding="utf-8")
    with pytest.raises(KvoptError, match="that kvopt study wrote"):
        studies.load(tmp_path)
    with pytest.raises(KvoptError, match=r"--out: cannot read .*nowhere\.json: it does not exist"):
        studies.load(tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("decode_s", "fast", "decode_s: must be a number, got 'fast'"),
        ("reproduced_s", float("nan"), "reproduced_s: must be 0 or more, got nan"),
        ("reproduced_s", 10**400, "reproduced_s: must be 0 or more and finite"),
        ("role", "best", "has role 'best'"),
        ("feasible", 1, "feasible: must be a bool, got an int 1"),
        ("details", None, "details: must be a dict, got None"),
        ("details", {"ratio": "x", "window_steps": 3}, "details.ratio: must be a number"),
    ],
)
def test_a_row_that_cannot_be_gone_on_from_is_named(tmp_path, name, value, words):
    """Without running: what was written is read before any work."""
    row = {"setting": "tight", "policy": "lru", "role": "achieved", "feasible": True, "details": {}}
    row |= dict.fromkeys(("decode_s", "reproduced_s", "took_s"), 1.0) | {name: value}
    head = {"study": STUDY.name, "scale": "whole", "seed": 0, "version": versions()["kvopt"], "complete": True}
    (tmp_path / FILE).write_text(json.dumps({**head, "rows": [row]}), encoding="utf-8")
    with pytest.raises(KvoptError) as error:
        studies.run(STUDY, "whole", tmp_path)
    assert words in str(error.value)
    assert "'tight', 'lru'" in str(error.value)


def test_processes_make_the_same_rows(tmp_path, whole):
    two = studies.run(STUDY, "whole", tmp_path, processes=2)
    same(whole.rows, two.rows)


def test_a_folder_of_another_run_is_refused(tmp_path, whole):
    (tmp_path / FILE).write_text(json.dumps(whole.to_json()), encoding="utf-8")
    with pytest.raises(KvoptError, match=r"--out: .*its scale is 'whole', not 'half'.*--fresh"):
        studies.run(STUDY, "half", tmp_path)
    with pytest.raises(KvoptError, match="its seed is 0, not 3"):
        studies.run(STUDY, "whole", tmp_path, seed=3)
    (tmp_path / FILE).write_text("[1]", encoding="utf-8")
    with pytest.raises(KvoptError, match="is no study's"):
        studies.run(STUDY, "whole", tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(KvoptError, match="cannot make the folder"):
        studies.run(STUDY, "whole", tmp_path / "file" / "below")


def test_bad_arguments_are_refused(tmp_path):
    with pytest.raises(KvoptError, match=r"scale: small has no 'third'. Choose one of: whole, half, long"):
        studies.run(STUDY, "third", tmp_path)
    with pytest.raises(KvoptError, match="processes: must be at least 1"):
        studies.run(STUDY, "whole", tmp_path, processes=0)
    with pytest.raises(MethodError, match=r"study: there is no 'nothing'. Choose one of: fang2025"):
        studies.get("nothing")
