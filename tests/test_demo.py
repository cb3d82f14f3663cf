"""The demo compares like with like, measures what it says, and reports what it measured."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import linalg

from immiscible_fast import fast_assign
from immiscible_fast.demo import train
from immiscible_fast.demo.command import run_demo
from immiscible_fast.demo.data import load_images
from immiscible_fast.demo.frechet import FrechetMeter, Gaussian, fit_gaussian, frechet_distance
from immiscible_fast.demo.model import VelocityMLP, euler_sample
from immiscible_fast.demo.report import HELPED, HURT, UNCLEAR, Costs, Report, in_words
from immiscible_fast.demo.settings import SAMPLING_STEPS, DemoSettings, OptionError
from immiscible_fast.demo.train import Arm, flow_loss, train_pair, train_small

TINY = {"seeds": 1, "steps": 3, "batch": 16}


class Oracle(torch.nn.Module):
    """The velocity of a batch whose images it knows: (x_t - x) / t = noise - x."""

    def __init__(self, x):
        super().__init__()
        self.x = x

    def forward(self, x_t, t):
        return (x_t - self.x) / t[:, None]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Few samples, and one thread as in the demo: more than there are idle cores are far slower."""
    monkeypatch.setattr(train, "JUDGED_SAMPLES", 200)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def batch(rng):
    x, noise = torch.from_numpy(rng.standard_normal((2, 32, 5)).astype(np.float32))
    return x, torch.from_numpy(rng.uniform(0.2, 1, 32).astype(np.float32)), noise


@pytest.fixture(scope="module")
def digits():
    images = load_images(None, 0).pixels
    return images, FrechetMeter(images)


def random_covariance(rng, dimensions, rank):
    factor = rng.standard_normal((dimensions, rank))
    return factor @ factor.T


@pytest.mark.parametrize("assign", [False, True])
def test_loss_is_taken_against_the_noise_in_the_batch(batch, assign):
    x, t, noise = batch
    loss = flow_loss(Oracle(x), x, t, noise, assign, "auto")
    assert float(loss.value) < 1e-8
    index = fast_assign(x, noise) if assign else torch.arange(len(x))
    assert torch.equal(loss.noise, noise[index])


def test_the_oracle_tells_a_wrong_pairing(batch):
    x, t, noise = batch
    assert float(flow_loss(Oracle(x.roll(1, 0)), x, t, noise, True, "auto").value) > 0.1


def test_small_batches_learn_from_the_noise_of_a_pool(digits, monkeypatch):
    """Noise that is worth nothing makes the second model worse, and leaves the first as it is."""
    images, meter = digits
    settings = DemoSettings(seeds=1, steps=200)
    first = train_small(images, meter, settings, 0)
    monkeypatch.setattr(train.NoisePool, "take", lambda pool, x: torch.zeros_like(x))
    second = train_small(images, meter, settings, 0)
    np.testing.assert_array_equal(first[0], second[0])
    assert (second[1] > first[1]).any()
    assert (first[0] != first[1]).all()


def test_arms_differ_in_the_pairing_only(batch):
    x, t, noise = batch
    initial = VelocityMLP(5, torch.Generator().manual_seed(0))
    plain, assigned = (Arm(initial, assign, "auto") for assign in (False, True))
    matched = noise[fast_assign(x, noise)]
    near = assigned.train(x, t, noise, 1)
    assert near.pair_distance < plain.train(x, t, noise, 1).pair_distance
    again = Arm(initial, False, "auto")
    again.train(x, t, matched, 1)
    for weight, other in zip(assigned.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(weight, other)


def test_training_learns_and_reports_every_step(digits):
    images, meter = digits
    settings = DemoSettings(seeds=1, steps=60, batch=64)
    calls = []
    result = train_pair(images, meter, settings, 0, lambda: calls.append(1))
    assert len(calls) == 60 + 30
    assert result.frechet.shape == (len(settings.checkpoints), 2, len(SAMPLING_STEPS))
    assert result.pair_distance.shape == result.step_ms.shape == (60, 2)
    assert (result.pair_distance[:, 1] < result.pair_distance[:, 0]).all()
    assert (result.frechet[-1] < result.frechet[0]).all()
    assert 0 < result.floor < result.frechet[-1].min()
    assert result.frechet_small.shape == (2, len(SAMPLING_STEPS))
    assert np.isfinite(result.frechet_small).all()
    assert (result.noise_ms <= result.step_ms).all()


def test_straight_lines_are_sampled_exactly(rng):
    ends = torch.from_numpy(rng.standard_normal((7, 3)))
    noise = torch.from_numpy(rng.standard_normal((7, 3)))
    field = torch.nn.Module()
    field.forward = lambda x, t: noise - ends
    for steps in SAMPLING_STEPS:
        torch.testing.assert_close(euler_sample(field, noise, steps), ends)


def test_frechet_distance_of_scaled_and_shifted_gaussians(rng):
    mean, scale, other = rng.standard_normal(5), rng.uniform(0, 2, 5), rng.uniform(0, 2, 5)
    first = Gaussian(mean, np.diag(scale**2))
    second = Gaussian(mean + 2, np.diag(other**2))
    expected = 4 * 5 + np.square(scale - other).sum()
    assert frechet_distance(first, second) == pytest.approx(expected)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("rank", [3, 6])
def test_frechet_distance_is_symmetric_and_right_for_singular_covariances(rng, rank):
    first = Gaussian(np.zeros(6), random_covariance(rng, 6, rank))
    second = Gaussian(rng.standard_normal(6), random_covariance(rng, 6, 6))
    there, back = frechet_distance(first, second), frechet_distance(second, first)
    assert there == pytest.approx(back, rel=1e-6)
    root = linalg.sqrtm(first.covariance @ second.covariance + 1e-12 * np.eye(6)).real
    expected = np.square(second.mean).sum() + np.trace(
        first.covariance + second.covariance - 2 * root
    )
    assert there == pytest.approx(expected, rel=1e-3)


def test_meter_measures_raw_pixels_up_to_64_of_them(digits):
    images, meter = digits
    half = images[::2]
    raw = [fit_gaussian(part.double().numpy()) for part in (images, half)]
    assert meter.distance(half) == pytest.approx(frechet_distance(*raw), rel=1e-5)
    assert meter.distance(images) == pytest.approx(0, abs=1e-4)


def test_meter_of_many_pixels_and_few_images(rng):
    images = torch.from_numpy(rng.standard_normal((9, 300)).astype(np.float32))
    meter = FrechetMeter(images)
    assert meter.distance(images) < 1e-4 < 1 < meter.distance(images + 1)


def test_demo_writes_its_files_and_repeats_itself(tmp_path, capsys):
    state = torch.random.get_rng_state()
    threads = torch.get_num_threads()
    contents = []
    for name in ("first", "second"):
        run_demo(DemoSettings(output=tmp_path / name / "deep", **TINY))
        contents.append(json.loads((tmp_path / name / "deep" / "demo.json").read_text()))
    assert torch.equal(state, torch.random.get_rng_state())
    assert threads == torch.get_num_threads()
    with Image.open(tmp_path / "first" / "deep" / "demo.png") as picture:
        assert min(picture.size) > 800
    first, second = contents
    for key in (
        "frechet",
        "frechet_128_sampling_steps",
        "frechet_batches_of_4",
        "floor",
        "verdicts",
        "pair_distance",
        "data",
        "trained_steps",
    ):
        assert first[key] == second[key]
    assert np.shape(first["frechet"]["assigned"]) == (1, 2, len(SAMPLING_STEPS))
    assert first["pair_distance"]["assigned"] < first["pair_distance"]["plain"]
    printed = " ".join(capsys.readouterr().out.split())
    for words in (
        "Frechet distance",
        "32 sampling",
        "assignment took",
        "a pool of 512",
        "demo.png",
    ):
        assert words in printed


def test_a_folder_of_ones_own_images(tmp_path, rng):
    (tmp_path / "below").mkdir()
    for i, (mode, place) in enumerate([("RGB", ""), ("L", "below"), ("RGBA", ""), ("P", "below")]):
        values = rng.integers(0, 256, (20 + i, 30), dtype=np.uint8)
        Image.fromarray(values).convert(mode).save(tmp_path / place / f"{i}.png")
    (tmp_path / "broken.jpg").write_text("not an image")
    (tmp_path / "notes.txt").write_text("not an image either")
    images = load_images(tmp_path, 8)
    assert images.pixels.shape == (4, 8 * 8 * 3)
    assert images.pixels.min() >= -1
    assert images.pixels.max() <= 1
    assert images.pictures(images.pixels).shape == (4, 8, 8, 3)
    settings = DemoSettings(data=tmp_path, size=8, output=tmp_path / "out", **TINY)
    assert np.isfinite(run_demo(settings).frechet).all()


def test_colours_and_orientation_survive(tmp_path):
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[0, 1] = (255, 0, 128)
    for i in range(2):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    images = load_images(tmp_path, 8)
    np.testing.assert_allclose(images.pictures(images.pixels)[0] * 255, picture, atol=1e-3)


def test_folders_without_images_are_refused(tmp_path):
    with pytest.raises(OptionError, match="--data must be a folder"):
        load_images(tmp_path / "missing", 8)
    for name in ("0.png", "1.png"):
        os.mkfifo(tmp_path / name)  # to open one would wait for ever
    with pytest.raises(OptionError, match="at least 2 readable images, found 0"):
        load_images(tmp_path, 8)


@pytest.mark.parametrize("most", [10, 30])  # of 49 pixels: twice the limit is an error for Pillow
def test_pictures_that_would_fill_the_memory_are_refused(tmp_path, monkeypatch, most):
    for name in ("0.png", "1.png"):
        Image.new("L", (7, 7)).save(tmp_path / name)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
    with pytest.raises(OptionError, match=r"--data: .*0\.png: Image size \(49 pixels\) exceeds"):
        load_images(tmp_path, 8)


def report_of(frechet, steps=4):
    frechet = np.asarray(frechet, dtype=float)
    settings = DemoSettings(seeds=len(frechet), steps=steps)
    costs = Costs(0.5, 1.0, 3.0, 4.0, 2.0, 1.5)
    small = frechet[:, -1]
    return Report(settings, "data", frechet, small[..., -1], small, 0.01, costs)


def test_verdicts_need_all_seeds_and_a_visible_change():
    plain = np.ones((2, 3, 5))
    assigned = np.array([[0.5, 2.0, 0.5, 0.99, 1.0], [0.6, 1.5, 1.2, 0.98, 1.0]])
    assigned = np.repeat(assigned[:, None], 3, 1)
    report = report_of(np.stack([plain, assigned], 2))
    assert report.settings.checkpoints == (1, 2, 4)
    assert report.verdicts == [[HELPED, HURT, UNCLEAR, UNCLEAR, UNCLEAR]] * 3
    words = " ".join(in_words(report))
    assert "clearly lower Frechet distance with 1 (-45%) sampling step." in words
    assert "clearly higher Frechet distance with 2 (+75%) sampling steps." in words
    assert "no clear difference with 4 (-15%), 8 (-2%) and 32 (+0%) sampling steps." in words
    assert "helped in 3, made no clear difference in 9 and hurt in 3" in words
    assert "a pool of 512 were, after 2 training steps, 1.00 and 0.55 with 1 (clearly low" in words
    assert "1.00 and 1.75 with 2 (clearly higher), 1.00 and 0.85 with 4 (no clear diff" in words
    assert "plain noise was then 1.000 and that of assigned noise 1.000 (+0%): no clear" in words
    assert "never reached that" in words
    assert "1.00 ms (median) of a step of 4.00 ms, 25%" in words
    assert "25.0% less" in words
    assert "luck" not in words


def test_words_speak_of_one_seed_and_of_models_that_get_worse():
    frechet = np.ones((1, 3, 2, 5))
    frechet[0, :, 0, 2] = (5, 1, 3)
    words = " ".join(in_words(report_of(frechet)))
    assert "Plain noise got worse again with more training at 4 (3.0 times its best)" in words
    assert "Assigned noise got worse" not in words
    assert "luck" in words


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"seeds": 0},
        {"batch": 1},
        {"seed": -1},
        {"size": 3},
        {"threads": 0},
        {"threads": 10**6},
        {"seed": 2**63},
        {"seed": 2**63 - 2},  # and the default's three seeds do not fit
        {"method": "magic"},
    ],
)
def test_settings_name_the_option_that_cannot_work(wrong):
    (name,) = wrong
    with pytest.raises(OptionError, match=f"--{name} must be"):
        DemoSettings(**wrong)


@pytest.mark.parametrize("steps", [1, 2, 7, 16, 2000])
def test_checkpoints_end_with_the_last_step(steps):
    checkpoints = DemoSettings(steps=steps).checkpoints
    assert checkpoints[-1] == steps
    assert checkpoints[0] >= 1
    assert len(set(checkpoints)) == len(checkpoints)
