"""Each map against a naive computation from the weights, and the files against strangers."""

import io
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from labcore.configs import looking
from labcore.configs.base import ConfigError
from labcore.configs.registry import METHODS
from labcore.configs.run import RunConfig
from labcore.networks.streams import stream
from labcore.runs import archive, feature_maps, map_files, reductions
from labcore.runs.events import Event, MapSaved, RunEnded
from labcore.runs.map_files import MapError, MapFile
from labcore.runs.results import fold
from labcore.runs.store import Store
from labcore.training import loop, map_maker, worker
from tests.conftest import tiny
from tests.recorded import SEED
from tests.test_method_contract import KINDS, VARIANTS, arrays, config, equal, spoken, with_statistics_of_its_own

pytestmark = pytest.mark.usefixtures("device", "few_answers")
ALL = ["fine_tuning", "separate_copies", "ewc", "lwf", "packnet", "packnet, learned", "piggyback", "piggyback, start"]


class Watched(map_maker.MapMaker):
    """Keeps what the network looked like whenever a map was made, to be computed again without haste."""

    made: list[dict[str, Any]]

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.made = []
        runs.append(self)

    @torch.no_grad()
    def now(self, stage: int) -> dict[int, dict[str, Tensor]]:
        """By task, all layers' weights as the task sees them, by hand: a forward pass knows no others."""
        found = {}
        for task in range(1, stage + 1):
            overlay = self.method.overlay(task)
            own = dict(self.network.trunk.named_parameters())
            names = [f"{layer.name}.weight" for layer in self.layers]
            found[task] = {name[:-7]: overlay.get(name, own[name]).detach().cpu().clone() for name in names}
        return found

    def live(self, stage: int, step: int, images: int) -> str:
        path = super().live(stage, step, images)
        self.made.append({"path": path, "stage": stage, "weights": self.now(stage)})
        return path

    def end(self, stage: int, step: int) -> str:
        path = super().end(stage, step)
        naive = {"fisher": naive_fisher(self, stage), "features": naive_features(self, stage)}
        self.made.append({"path": path, "stage": stage, "weights": self.now(stage), **naive})
        return path


runs: list[Watched] = []


def naive_fisher(maker: Watched, stage: int) -> dict[str, Tensor]:
    """One image at a time through the real network and the method's own overlay; labels drawn as documented."""
    method, network, task = maker.method, maker.network, maker.tasks[stage - 1]
    if method.run.method.name == "ewc":
        return {layer.name: method.importance[stage][f"{layer.name}.weight"].cpu().clone() for layer in maker.layers}  # type: ignore[attr-defined]
    generator = stream(maker.config.seed, stage, "maps")
    chosen = torch.randperm(len(task.train), generator=generator)[: map_maker.FULL_IMAGES]
    draws = torch.rand(len(chosen), generator=generator, dtype=torch.float64).tolist()
    names = [f"{layer.name}.weight" for layer in maker.layers]
    state = {name: value.detach().clone() for name, value in network.trunk.state_dict().items()}
    state |= {name: value.detach().clone() for name, value in method.overlay(stage).items()}
    leaves = [state[name].requires_grad_(True) for name in names]
    seen = method.seen(stage)
    total = {name: torch.zeros_like(state[name]) for name in names}
    for place, index in enumerate(chosen):
        image = network.trunk.normalise(task.train.images[index : index + 1])
        logits = network.heads[str(stage)](torch.func.functional_call(network.trunk, state, (image,)))
        label = int((logits.detach().softmax(1).double().cumsum(1)[0] <= draws[place]).sum())
        gradients = torch.autograd.grad(
            -functional.cross_entropy(logits, torch.tensor([label], device=image.device)), leaves
        )
        for name, gradient in zip(names, gradients, strict=True):
            total[name] += torch.where(seen[name], gradient, 0.0).square() if name in seen else gradient.square()
    return {name[:-7]: (value / len(chosen)).detach().cpu() for name, value in total.items()}


@torch.no_grad()
def naive_features(maker: Watched, stage: int) -> dict[tuple[int, int], list[Tensor]]:
    """By job and picture, all maps of each block [C, H, W]: one picture at a time, block by block."""
    trunk, found = maker.network.trunk, {}
    for task in maker.tasks[:stage]:
        state = {**trunk.state_dict(), **maker.method.overlay(task.position)}
        for picture in range(looking.SEEN_PICTURES):
            x, maps = trunk.normalise(task.test.images[picture : picture + 1]), []
            for block in range(len(trunk.block_names)):
                x = torch.func.functional_call(trunk, state, (x, block, block + 1))
                maps.append((x[0] if x.ndim == 4 else x[0, :, None, None]).cpu().clone())
            found[task.position, picture] = maps
    return found


def assert_seen(opened: MapFile, features: dict[tuple[int, int], list[Tensor]], stage: int) -> None:
    """The maps of a file are those of the network; and when a job is learnt, those that vary most."""
    for (job, picture), blocks in features.items():
        for block, maps in enumerate(blocks):
            told = feature_maps.read(lambda name: opened.read(name) if name in opened else None, job, picture, block)
            assert told is not None
            expected = maps[list(told.channels)].numpy()
            step = (expected.max() - expected.min()) / 255
            np.testing.assert_allclose(told.values, expected, atol=0.51 * step + 1e-4 * np.abs(expected).max() + 1e-6)
            if job == stage:
                varies = maps.flatten(1).std(1) if maps[0].numel() > 1 else maps.flatten().abs()
                least = varies[list(told.channels)].min()
                assert int((varies > 1.001 * least + 1e-6).sum()) < looking.SEEN_MAPS


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "MapMaker", Watched)
    runs.clear()


def trained(run: RunConfig, folder: Path) -> tuple[Watched, list[MapSaved]]:
    events = list(loop.train(run, maps=folder, stages=lambda k: folder / "stages" / str(k)))
    assert isinstance(events[-1], RunEnded)
    assert events[-1].state == "complete", events[-1].error
    return runs[-1], [event for event in events if isinstance(event, MapSaved)]


def row(opened: MapFile, name: str) -> dict[str, Any]:
    """A layer's place → its value in an array […, L]."""
    return {layer.name: opened.read(name)[..., place] for place, layer in enumerate(map_files.layers(opened))}


def assert_drawn(opened: MapFile, kind: str, name: str, values: np.ndarray) -> None:
    """The numbers of a layer's filters since the first task, to less than what can be seen on an axis of them."""
    most = row(opened, f"{kind}_most")[name]
    drawn = map_files.decode_roots(opened.read(f"{kind}/{name}"), most)[0]
    assert most[0] == pytest.approx(values.max(), rel=5e-3, abs=1e-9)
    np.testing.assert_allclose(drawn, values, atol=5e-3 * most[0] + 1e-9)


@pytest.mark.parametrize("method", ALL)
def test_importance_drift_and_what_it_broke_are_what_the_weights_say(method: str, watch: None, tmp_path: Path) -> None:
    maker, said = trained(config(method), tmp_path)
    assert [(made["stage"], made["path"]) for made in maker.made] == [(event.stage, event.path) for event in said]
    ends = [made for made in maker.made if "fisher" in made]
    for made in ends:
        assert_seen(MapFile(tmp_path / made["path"]), made["features"], made["stage"])
    first_maps, later = (MapFile(tmp_path / made["path"]) for made in ends)
    assert np.array_equal(first_maps.read("seen_channels/1"), later.read("seen_channels/1")), (
        "the same maps, to compare"
    )
    for made in ends:
        opened = MapFile(tmp_path / made["path"])
        for name, mean in row(opened, "importance").items():
            fisher = made["fisher"][name]
            assert mean == pytest.approx(float(fisher.mean()), rel=2e-3), name
            grid = fisher.mean((2, 3)) if fisher.shape[1] > 4 else fisher.flatten(1)
            drawn = 10 ** map_files.decode(opened.read(f"importance/{name}"), opened.read("importance_range"))
            there = ~np.isnan(drawn)
            assert drawn.shape == grid.shape
            step = reductions.FULL_STEP * map_files.DECADES / 254
            np.testing.assert_allclose(np.log10(drawn[there]), np.log10(grid.numpy()[there]), atol=step / 2 + 2e-3)
            assert grid.numpy()[~there].max(initial=0) <= 10 ** opened.read("importance_range")[0] * 1.25
    first, isolated = ends[0], METHODS_THAT_ISOLATE & {method.split(",")[0]}
    moved = 0.0
    for made in maker.made:
        if made["stage"] == 1:
            continue
        opened = MapFile(tmp_path / made["path"])
        assert opened.read("drift_tasks").tolist() == [1]
        drift, broke = row(opened, "drift"), row(opened, "broke")
        for name, then in first["weights"][1].items():
            move = made["weights"][1][name] - then
            scale = float(then.square().mean()) ** 0.5
            assert drift[name][0] == pytest.approx(float(move.square().mean()) ** 0.5 / scale, rel=1e-3, abs=1e-9)
            by_filter = move.square().mean((1, 2, 3)).sqrt() / scale
            assert_drawn(opened, "drift", name, by_filter.numpy())
            extra = (first["fisher"][name] * move.square()).sum((1, 2, 3)) / 2
            assert_drawn(opened, "broke", name, extra.numpy())
            assert broke[name][0] == pytest.approx(float(extra.sum()), rel=5e-3, abs=1e-12)
            moved += float(drift[name][0])
    assert (moved == 0) == bool(isolated)


METHODS_THAT_ISOLATE = {"separate_copies", "packnet", "piggyback", "feature_extraction"}


def test_live_importance_is_an_estimate_and_says_so(watch: None, tmp_path: Path) -> None:
    _, said = trained(config("fine_tuning", tasks=[{"name": "digits", "images_per_class": 20}]), tmp_path)
    kinds = {event.kind: int(MapFile(tmp_path / event.path).read("images")) for event in said}
    assert kinds == {"live": looking.FEWEST_MAP_PICTURES, "stage": map_maker.FULL_IMAGES}


@pytest.mark.parametrize("method", ["packnet", "packnet, learned", "packnet, kept"])
def test_owners_are_counted_at_every_moment(method: str, watch: None, tmp_path: Path) -> None:
    maker, said = trained(config(method), tmp_path)
    owners = maker.method.owners  # type: ignore[attr-defined]
    opened = MapFile(tmp_path / said[-1].path)
    for name, counts in row_first(opened, "owners").items():
        owner = owners[f"{name}.weight"]
        assert counts.tolist() == [int((owner == task).sum()) for task in range(3)]
    free = [MapFile(tmp_path / event.path).read("owners")[:, 0].sum() for event in said if event.stage == 1]
    assert free[0] == 0, "while a task trains, all that is free is its own"
    assert free[-1] > 0, "after pruning some is"
    last = next(MapFile(tmp_path / e.path) for e in reversed(said) if "owner/block2.conv" in MapFile(tmp_path / e.path))
    assert np.array_equal(last.read("owner/block2.conv"), owners["block2.conv.weight"].flatten(1).cpu().numpy())


def row_first(opened: MapFile, name: str) -> dict[str, Any]:
    return {layer.name: opened.read(name)[place] for place, layer in enumerate(map_files.layers(opened))}


def test_masks_density_overlap_and_scores(watch: None, tmp_path: Path) -> None:
    run = config("piggyback, start", training__epochs=6)
    maker, said = trained(run, tmp_path)
    method = maker.method
    opened = MapFile(tmp_path / said[-1].path)
    on = {task: {n: m.cpu().numpy() for n, m in method.seen(task).items()} for task in (1, 2)}
    density, overlap = row(opened, "density"), row_first(opened, "jaccard_layers")
    for name in ("block1.conv", "block2.conv", "block3.conv"):
        one, two = on[1][f"{name}.weight"], on[2][f"{name}.weight"]
        assert density[name] == pytest.approx([one.mean(), two.mean()])
        assert overlap[name][0, 1] == pytest.approx((one & two).sum() / (one | two).sum())
        assert overlap[name][1, 1] == 1
    flat = {task: np.concatenate([mask.ravel() for mask in row.values()]) for task, row in on.items()}
    whole = (flat[1] & flat[2]).sum() / (flat[1] | flat[2]).sum()
    assert opened.read("jaccard")[0, 1] == pytest.approx(whole)
    assert flat[2].mean() < 1, "the run is too short to show anything"
    mask = next(MapFile(tmp_path / e.path) for e in reversed(said) if "mask/block2.conv" in MapFile(tmp_path / e.path))
    assert np.array_equal(mask.read("mask/block2.conv") == 255, on[2]["block2.conv.weight"].reshape(64, -1))
    pairs = on[2]["block3.conv.weight"].reshape(128, 288, 2).mean(2)  # 576 columns: a pixel is two weights
    np.testing.assert_allclose(mask.read("mask/block3.conv") / 255, pairs, atol=0.003)
    scores, edges = row_first(opened, "scores"), opened.read("score_edges")
    for name, counts in scores.items():
        below = counts[edges[1:] <= opened.read("threshold") + 1e-9].sum()
        assert counts.sum() == on[2][f"{name}.weight"].size
        assert below == pytest.approx((~on[2][f"{name}.weight"]).sum(), abs=counts.max() * 0.02 + 2)


@pytest.mark.parametrize("method", ["fine_tuning", "ewc", "packnet", "feature_extraction"])
def test_representation_is_linear_cka_of_features(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features: dict[tuple[int, int, str], np.ndarray] = {}

    @torch.no_grad()
    def look(maker: map_maker.MapMaker, stage: int, when: str) -> None:
        maker.network.let_statistics_move([])
        for task in maker.tasks[:stage]:
            x = maker.network.trunk.normalise(task.validation.images[: map_maker.PROBES])
            overlay = maker.method.overlay(task.position)
            features[stage, task.position, when] = maker.network.run_blocks(x, overlay, 0, 2).flatten(1).cpu().numpy()

    class Looking(map_maker.MapMaker):
        def begin(self, stage: int) -> None:
            super().begin(stage)
            look(self, stage, "before")

        def end(self, stage: int, step: int) -> str:
            look(self, stage, "after")
            return super().end(stage, step)

    monkeypatch.setattr(loop, "MapMaker", Looking)
    events = list(loop.train(config(method), maps=tmp_path))
    ends = [event for event in events if isinstance(event, MapSaved) and event.kind == "stage"]
    for event in ends:
        found = MapFile(tmp_path / event.path).read("cka")
        assert found.shape == (event.stage, 3)
        for task in range(1, event.stage + 1):
            x, y = (features[event.stage, task, when].astype(np.float64) for when in ("before", "after"))
            x, y = x - x.mean(0), y - y.mean(0)
            expected = np.linalg.norm(x.T @ y) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))
            assert found[task - 1, 1] == pytest.approx(expected, abs=1e-4)
    if method in ("packnet", "feature_extraction"):
        assert found[0] == pytest.approx([1, 1, 1], abs=1e-5), "an isolated task's features do not change"
    elif method == "fine_tuning":
        assert found[0].max() < 0.9999


# ---- what maps must not do ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", VARIANTS)
def test_maps_change_no_result(method: str, device: str, tmp_path: Path) -> None:
    plain = with_statistics_of_its_own(method, device)
    torch.manual_seed(SEED)
    run = config(method, backbone__norm="per_task")
    mapped = list(loop.train(run, stages=lambda k: tmp_path / "mapped" / str(k), maps=tmp_path))
    assert torch.equal(torch.get_rng_state(), plain.draws_after)
    assert spoken(plain.events) == spoken([event for event in mapped if not isinstance(event, MapSaved)])
    assert equal(arrays(plain.stages), arrays(tmp_path / "mapped"))


# What no method has a say in: each kind of method in `make test`, and under the mark the others.
BY_KIND = [pytest.param(name, marks=[] if name in KINDS else [pytest.mark.heavy]) for name in VARIANTS]


@pytest.mark.parametrize("method", BY_KIND)
def test_maps_of_a_stages_end_alone_can_be_wished_for(method: str, tmp_path: Path) -> None:
    run = config(method, backbone__norm="per_task", training__epochs=1)
    only = list(loop.train(run, maps=tmp_path / "ends", live_maps=False))
    assert [event.kind for event in only if isinstance(event, MapSaved)] == ["stage", "stage"]


@pytest.mark.parametrize("method", ["fine_tuning", "separate_copies", "ewc", "packnet", "piggyback, start"])
def test_a_run_that_goes_on_draws_the_same_maps(method: str, tmp_path: Path) -> None:
    run = config(method)
    whole = list(loop.train(run, maps=tmp_path / "whole", stages=lambda k: tmp_path / "w" / str(k)))
    asked = attempts = 0
    told: list[Event] = []

    def stop_later_each_time() -> bool:  # timing single answers asks hundreds of times at the end
        nonlocal asked
        asked += 1
        return asked == 14 + 7 * attempts**2

    options: dict[str, Any] = {"maps": tmp_path / "parts", "stages": lambda k: tmp_path / "p" / str(k)}
    while not told or told[-1].state != "complete":  # type: ignore[union-attr]
        asked = 0
        told += loop.train(
            run, checkpoint=tmp_path / "checkpoint", checkpoint_seconds=0, should_stop=stop_later_each_time, **options
        )
        attempts += 1
    assert attempts > 3
    assert equal(arrays(tmp_path / "w"), arrays(tmp_path / "p"))
    first, second = fold(whole).maps, fold(told).maps
    assert [(m.stage, m.step, m.kind, m.path) for m in first] == [(m.stage, m.step, m.kind, m.path) for m in second]
    for moment in first:
        ours, theirs = (MapFile(tmp_path / part / moment.path) for part in ("whole", "parts"))
        assert ours.names <= theirs.names  # a new process says again what it does not know it has said
        for name in ours.names:
            a, b = ours.read(name), theirs.read(name)
            same = np.array_equal(a, b) if a.dtype.kind == "U" else np.allclose(a, b, atol=1e-6, equal_nan=True)
            assert same, (moment.path, name)


@pytest.mark.parametrize("method", ["fine_tuning", "packnet"])
def test_weights_that_do_not_fit_in_memory_are_told(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = config(
        method, tasks=[{"name": name, "images_per_class": 20} for name in ("digits:0-3", "digits:4-6", "digits:7-9")]
    )
    monkeypatch.setattr(map_maker, "LARGEST_KEPT", 1_200_000)  # bytes: weights and importance of one small network
    ends = [
        MapFile(tmp_path / event.path)
        for event in loop.train(run, maps=tmp_path, live_maps=False)
        if isinstance(event, MapSaved)
    ]
    assert ["drift_unkept" in opened for opened in ends] == [False, False, True]
    assert ends[2].read("drift_unkept").tolist() == [2]
    assert ends[2].read("drift_tasks").tolist() == [1]


def test_the_importance_that_ewc_measures_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []
    monkeypatch.setattr(map_maker, "fisher_diagonal", lambda *parts, **options: measured.append(parts))
    events = list(loop.train(config("ewc"), maps=tmp_path, live_maps=False))
    assert [event.kind for event in events if isinstance(event, MapSaved)] == ["stage", "stage"]
    assert measured == []


@pytest.mark.parametrize("method", ["ewc", "packnet"])
def test_stages_taken_from_the_cache_are_looked_at_again(method: str, store: Store) -> None:
    first = store.submit(tiny(method)).run
    worker.run_claim(store.claim_run(first), "cpu")
    again = store.submit(tiny(method, tasks=[*tiny(method).model_dump()["tasks"], {"name": "digits:5-7"}])).run
    worker.run_claim(store.claim_run(again), "cpu")
    assert store.result(again).stages[0].reused
    ours, theirs = store.fold(first), store.fold(again)
    assert [m.stage for m in theirs.maps if m.kind == "stage"] == [1, 2, 3]
    for stage in (1,) if method == "packnet" else (1, 2):
        one, two = (
            MapFile(store.folder(run) / next(m.path for m in found.maps if m.kind == "stage" and m.stage == stage))
            for run, found in ((first, ours), (again, theirs))
        )
        for name in ("importance", *(["drift", "broke"] if stage > 1 else [])):
            np.testing.assert_allclose(one.read(name), two.read(name), rtol=1e-4, atol=1e-9)
        for name in ("seen/1", "seen_channels/1", "seen_ranges/1"):
            assert np.array_equal(one.read(name), two.read(name))


# ---- reductions -----------------------------------------------------------------------------------------------------


def test_a_pixel_is_the_mean_or_the_majority_of_whole_blocks() -> None:
    values = torch.arange(35.0).view(5, 7)
    assert reductions.factors(5, 7, 3) == (2, 3)
    found = reductions.block_mean(values, 3)
    assert found.shape == (3, 3)
    assert found[0, 0] == values[:2, :3].mean()
    assert found[2, 2] == values[4, 6]
    owners = torch.tensor([[1, 1, 2], [2, 1, 0], [3, 3, 0]], dtype=torch.uint8)
    assert reductions.block_majority(owners, 2).tolist() == [[1, 0], [3, 0]]
    assert reductions.block_majority(owners, 3) is owners
    assert max(reductions.block_mean(torch.zeros(1280, 2880), 512).shape) <= 512


def test_codes_keep_magnitudes_by_logarithm() -> None:
    values = np.array([0, 1e-12, 1e-8, 1e-3, 1.0])
    span = map_files.range_of(1.0)
    back = map_files.decode(map_files.encode(values, span), span)
    assert np.isnan(back[:2]).all()
    np.testing.assert_allclose(back[2:], [-8, -3, 0], atol=0.02)
    assert np.isnan(map_files.decode(map_files.encode(np.zeros(3), map_files.range_of(0)), map_files.range_of(0))).all()


def test_fewer_codes_are_at_most_half_a_step_off() -> None:
    span, values = map_files.range_of(1.0), np.logspace(-8, 0, 1000)
    codes = map_files.encode(values, span, 6)
    assert len(np.unique(codes)) == 43
    np.testing.assert_allclose(map_files.decode(codes, span), np.log10(values), atol=3.01 * 8 / 254)


def test_codes_by_root_keep_what_an_axis_shows() -> None:
    values = np.array([[0, 1e-6, 0.25, 1.0], [0, 0, 0, 0], [np.nan, np.inf, 3, 1]])
    codes, most = map_files.encode_roots(values)
    assert most.tolist() == [1, 0, 3]
    back = map_files.decode_roots(codes, most)
    np.testing.assert_allclose(back[:2], values[:2], atol=0.004)
    assert np.isnan(back[2, :2]).all()
    np.testing.assert_allclose(back[2, 2:], [3, 1], atol=0.012)


def some_layers(count: int) -> dict[str, np.ndarray]:
    names = np.array([f"block.{place}.conv" for place in range(count)])
    return {"layers": names, "blocks": names, "shapes": np.ones((count, 4), np.int32)}


def test_matrices_come_out_of_a_file_as_they_went_in(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    arrays = some_layers(40)
    for place, name in enumerate(arrays["layers"].tolist()):
        shape = (1 + 13 * place, 1 + 29 * (place % 7))
        arrays[f"constant/{name}"] = np.full(shape, place, np.uint8)
        arrays[f"owner/{name}"] = draw.integers(0, 2 + place % 16, shape, np.uint8)
        arrays[f"noise/{name}"] = draw.integers(0, 256, shape, np.uint8)
        filters, inputs = draw.normal(100, 20, (shape[0], 1)), draw.normal(0, 20, (1, shape[1]))
        arrays[f"importance/{name}"] = (filters + inputs + draw.normal(0, 2, shape)).clip(0, 255).astype(np.uint8)
        arrays[f"large/{name}"] = draw.integers(0, 256, (300, 300), np.uint8)
        arrays[f"measured/{name}"] = draw.normal(size=shape).astype(np.float32)
    map_files.save(tmp_path / "map.npz", arrays)
    opened = MapFile(tmp_path / "map.npz")
    assert set(opened.names) == set(arrays)
    for name in draw.permutation(list(arrays)):
        np.testing.assert_array_equal(opened.read(name), arrays[name], strict=True)
    with zipfile.ZipFile(tmp_path / "map.npz") as file:
        sizes = {part.filename: part.file_size for part in file.infolist()}
    plain = sum(value.size for name, value in arrays.items() if name.startswith("importance/"))
    assert sizes["packed/importance.0.npy"] < 0.6 * plain  # 4 bits of noise, and what a row and a column share
    assert "packed/large.26.npy" in sizes  # so that no more than a part is read for one array


# ---- strangers ------------------------------------------------------------------------------------------------------


def npz(**members: bytes | np.ndarray) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as file:
        for name, value in members.items():
            if isinstance(value, np.ndarray):
                data = io.BytesIO()
                np.save(data, value, allow_pickle=True)
                value = data.getvalue()
            file.writestr(f"{name}.npy", value)
    return target.getvalue()


def claims(shape: str) -> bytes:
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + b"\0" * 64


def misnamed(data: bytes) -> bytes:
    """A zip of which the first file's name, where it lies, is no text; the directory says what it was."""
    changed = bytearray(data)
    changed[7] |= 0x8  # names are in UTF-8
    changed[30] = 0xFF
    return bytes(changed)


GOOD = {"layers": np.array(["a"]), "blocks": np.array(["b"]), "shapes": np.ones((1, 4), np.int32)}


def packed(stream: bytes, way: int = 1) -> bytes:
    index = np.array([[0, 2, 2]], np.int32)
    return npz(**GOOD, **{"index/x": index, "packed/x.0": np.frombuffer(bytes([way]) + stream, np.uint8)})


HOSTILE: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "cut short"),
    "torn": (npz(**GOOD)[:-30], "cut short"),
    "a pickle": (npz(**GOOD, importance=np.array([print], object)), "no array"),
    "a long claim": (npz(**GOOD, importance=claims("(100000, 100000)")), "larger than any"),
    "a short claim": (npz(**GOOD, importance=claims("(3,)")), "not as long"),
    "a negative claim": (npz(**GOOD, importance=claims("(-3,)")), "no array"),
    "more axes than numpy has": (npz(**GOOD, importance=claims(f"({'1, ' * 70})")), "no array"),
    "a quotation without end": (npz(**GOOD, importance=claims('"""')), "no array"),
    "a block out of line": (npz(**GOOD, importance=claims("(\n    )\n  2")), "no array"),
    "a set of lists": (npz(**GOOD, importance=claims("{[]}")), "no array"),
    "another name before the array": (misnamed(npz(**GOOD)), "cut short"),
    "a bomb": (npz(**GOOD, importance=np.zeros(9_000_000, np.float32)), "larger than any"),
    "no array": (npz(**GOOD, importance=b"hello"), "no array"),
    "other names": (npz(**GOOD, **{"../importance": np.zeros(1, np.float32)}), "which none"),
    "no layers": (npz(importance=np.zeros(1, np.float32)), "no layers"),
    "an index of others": (npz(**GOOD, **{"index/x": np.array([[1, 2, 2]], np.int32)}), "where the arrays"),
    "a layer twice": (npz(**GOOD, **{"index/x": np.array([[0, 2, 2]] * 2, np.int32)}), "where the arrays"),
    "an index of floats": (npz(**GOOD, **{"index/x": np.ones((1, 3), np.float32)}), "where the arrays"),
    "a long index": (npz(**GOOD, **{"index/x": np.array([[0, 1 << 16, 1 << 16]], np.int32)}), "larger than any"),
    "an index alone": (npz(**GOOD, **{"index/x": np.array([[0, 2, 2]], np.int32)}), "a part is missing"),
    "a short pack": (packed(zlib.compress(b"\1\0\1abc")), "cut short"),
    "a torn pack": (packed(zlib.compress(b"\1\0\1abcdefgh")[:-6]), "cut short"),
    "a pack of nothing": (packed(b""), "damaged"),
    "a pack that unpacks to gigabytes": (packed(zlib.compress(bytes(1 << 24))), "too long"),
    "a pack of other values": (packed(zlib.compress(b"\1\0\1\0\1\2\0")), "stands for nothing"),
    "a pack in another way": (packed(zlib.compress(b"\1\0\1\0\1\1\0"), way=7), "no pack"),
    "a field that is none": (npz(**GOOD, sees=np.array([-1], np.int32)), "how much of the picture"),
    "fields of others": (npz(**GOOD, sees=np.ones((2, 2), np.int32)), "how much of the picture"),
    "shapes of others": (npz(**{**GOOD, "shapes": np.ones((2, 4), np.int32)}), "which layers"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_torn_or_hostile_file_is_a_sentence(case: str, tmp_path: Path) -> None:
    data, words = HOSTILE[case]
    (tmp_path / "map.npz").write_bytes(data)
    with pytest.raises(MapError, match=words):
        map_files.check(tmp_path / "map.npz")
    map_files.save(tmp_path / "good.npz", GOOD)
    map_files.check(tmp_path / "good.npz")


SEEN: dict[str, np.ndarray] = {
    "seen_sizes": np.array([[4, 2, 3], [2, 1, 1]], np.int32),
    "seen/1": np.arange(52, dtype=np.uint8),
    "seen_channels/1": np.array([[[3, 1, 2, 0], [5, 6, -1, -1]]] * 2, np.int32),
    "seen_ranges/1": np.array([[[0, 255], [-1, 1]]] * 2, np.float32),
}


def test_feature_maps_come_out_of_a_file_as_they_went_in(tmp_path: Path) -> None:
    map_files.save(tmp_path / "map.npz", GOOD | SEEN)
    feature_maps.check(tmp_path / "map.npz", 1)
    opened = MapFile(tmp_path / "map.npz")

    def array(name: str) -> np.ndarray | None:
        return opened.read(name) if name in opened else None

    first, last = feature_maps.read(array, 1, 0, 0), feature_maps.read(array, 1, 1, 1)
    assert first is not None and last is not None
    assert (first.channels, first.values.tolist()) == ((3, 1, 2, 0), np.arange(24).reshape(4, 2, 3).tolist())
    assert last.channels == (5, 6)
    assert last.values.ravel().tolist() == pytest.approx([2 * 50 / 255 - 1, 2 * 51 / 255 - 1])
    assert feature_maps.read(array, 2, 0, 0) is feature_maps.read(array, 1, 2, 0) is None


DAMAGED: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "of a job that the stage cannot know": ({"seen/2": SEEN["seen/1"]}, "cannot know"),
    "of no job": ({"seen/x": SEEN["seen/1"]}, "cannot know"),
    "cut short": ({"seen/1": SEEN["seen/1"][:-1]}, "do not fit together"),
    "larger than any": ({"seen_sizes": np.array([[4, 1 << 15, 1 << 15], [2, 1, 1]], np.int32)}, "do not fit together"),
    "of no size": ({"seen_sizes": np.array([[4, 0, 3], [2, 1, 1]], np.int32)}, "do not fit together"),
    "of more pictures": ({"seen_channels/1": np.zeros((3, 2, 4), np.int32)}, "do not fit together"),
    "of other blocks": ({"seen_ranges/1": np.zeros((2, 3, 2), np.float32)}, "do not fit together"),
    "without numbers": ({"seen_ranges/1": np.full((2, 2, 2), np.nan, np.float32)}, "do not fit together"),
    "of another type": ({"seen/1": SEEN["seen/1"].astype(np.float32)}, "do not fit together"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_feature_maps_are_a_sentence(case: str, tmp_path: Path) -> None:
    change, words = DAMAGED[case]
    map_files.save(tmp_path / "map.npz", GOOD | SEEN | change)
    map_files.check(tmp_path / "map.npz")
    with pytest.raises(MapError, match=words):
        feature_maps.check(tmp_path / "map.npz", 1)


@pytest.mark.parametrize("missing", SEEN)
def test_a_part_of_feature_maps_alone_is_refused(missing: str, tmp_path: Path) -> None:
    map_files.save(tmp_path / "map.npz", GOOD | {name: value for name, value in SEEN.items() if name != missing})
    with pytest.raises(MapError, match="not whole"):
        feature_maps.check(tmp_path / "map.npz", 1)


# ---- travelling -----------------------------------------------------------------------------------------------------


def rewritten(source: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    with zipfile.ZipFile(source) as file:
        members = {name: file.read(name) for name in file.namelist()}
    change(members)
    target = source.with_name("changed.zip")
    with zipfile.ZipFile(target, "w") as file:
        for name, data in members.items():
            file.writestr(name, data)
    return target


def test_maps_travel_with_a_run_and_are_checked(store: Store, tmp_path: Path) -> None:
    run = store.submit(tiny("packnet")).run
    worker.run_claim(store.claim_run(run), "cpu")
    archive.export_run(store, run, tmp_path / "run.zip")
    elsewhere = Store(tmp_path / "elsewhere")
    assert archive.import_run(elsewhere, tmp_path / "run.zip") == run
    moments = elsewhere.fold(run).maps
    assert moments == store.fold(run).maps
    for moment in moments:
        assert (elsewhere.folder(run) / moment.path).read_bytes() == (store.folder(run) / moment.path).read_bytes()

    def poison(members: dict[str, bytes]) -> None:
        members[moments[0].path] = HOSTILE["a pickle"][0]

    with pytest.raises(ConfigError, match="no array"):
        archive.import_run(elsewhere, rewritten(tmp_path / "run.zip", poison))

    def say_of_others(members: dict[str, bytes]) -> None:
        end = next(moment.path for moment in moments if moment.kind == "stage")
        (tmp_path / "end.npz").write_bytes(members[end])
        opened = MapFile(tmp_path / "end.npz")
        told = {name: opened.read(name) for name in opened.names}
        map_files.save(tmp_path / "end.npz", told | {"seen/2": told["seen/1"]})
        members[end] = (tmp_path / "end.npz").read_bytes()

    with pytest.raises(ConfigError, match="feature maps of a job that it cannot know"):
        archive.import_run(elsewhere, rewritten(tmp_path / "run.zip", say_of_others))
    with pytest.raises(ConfigError, match="none of this lab"):
        archive.import_run(elsewhere, rewritten(tmp_path / "run.zip", lambda m: m.update({"maps/1/../x.npz": b""})))


@pytest.mark.parametrize("method", [param for param in BY_KIND if param.values[0] in METHODS])
def test_a_worker_can_be_told_to_record_less(method: str, store: Store) -> None:
    run = store.submit(tiny(method)).run
    worker.run_claim(store.claim_run(run), "cpu", maps="none")
    assert store.fold(run).maps == []
    assert not (store.folder(run) / "maps").exists()


def test_a_worker_that_is_told_nothing_records_as_the_settings_have_it(store: Store) -> None:
    store.change_settings(maps="stages")
    for seed, kinds in ((0, ["stage", "stage"]), (1, [])):
        run = store.submit(tiny(seed=seed)).run
        worker.run_claim(store.claim_run(run), "cpu")
        assert [moment.kind for moment in store.fold(run).maps] == kinds
        store.change_settings(maps="none")
