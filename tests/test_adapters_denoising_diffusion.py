"""``AssignedNoise`` in denoising-diffusion-pytorch: every target is the noise that is in x_t."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from other_projects import project
from torch import nn

from immiscible_fast import assign_noise, fast_assign
from immiscible_fast.adapters.denoising_diffusion import AssignedNoise

ddp = project("denoising_diffusion_pytorch")
one_d = project("denoising_diffusion_pytorch.denoising_diffusion_pytorch_1d")
guidance = project("denoising_diffusion_pytorch.classifier_free_guidance")
trainers = project("denoising_diffusion_pytorch.denoising_diffusion_pytorch")

N, SHAPE = 256, (2, 4, 4)


class Oracle(nn.Module):
    """A model that knows the images, and answers from x_t and its time by ``output``."""

    channels, self_condition = 2, False

    def __init__(self, out_dim=2, continuous=False):
        super().__init__()
        self.out_dim, self.random_or_learned_sinusoidal_cond = out_dim, continuous
        self.scale = nn.Parameter(torch.ones(()))
        self.output = lambda x_t, time: torch.zeros_like(x_t)

    def forward(self, x_t, time, *conditions):
        self.x_t = x_t.detach()
        return self.scale * self.output(x_t, time)


class Diffusion2D(AssignedNoise, ddp.GaussianDiffusion):
    pass


class Diffusion1D(AssignedNoise, ddp.GaussianDiffusion1D):
    pass


class Guided(AssignedNoise, guidance.GaussianDiffusion):
    pass


class Learned(AssignedNoise, ddp.LearnedGaussianDiffusion):
    pass


class Weighted(AssignedNoise, ddp.WeightedObjectiveGaussianDiffusion):
    pass


class Continuous(AssignedNoise, ddp.ContinuousTimeGaussianDiffusion):
    pass


class VParam(AssignedNoise, ddp.VParamContinuousTimeGaussianDiffusion):
    pass


class Elucidated(AssignedNoise, ddp.ElucidatedDiffusion):
    pass


def drawn_images(rng, shape=SHAPE):
    return torch.from_numpy(rng.random((N, *shape))).float()


def right_answers(diffusion, x):
    """What ``diffusion``'s loss wants of its model, from x_t alone: zero loss if the target is
    the noise that is in x_t."""

    def noise(x_t, t):
        eps = diffusion.predict_noise_from_start(x_t, t, x)
        wanted = {"pred_noise": eps, "pred_x0": x, "pred_v": diffusion.predict_v(x, t, eps)}
        return wanted[diffusion.objective]

    return noise


def losses(diffusion, oracle, images, **arguments):
    oracle.output = arguments.pop("output", None) or right_answers(diffusion, 2 * images - 1)
    times = torch.randint(100, 700, (N,))
    return diffusion(images, times=times, loss_reduction="none", **arguments).detach()


def assert_assigned(x, noise, labels=None):
    """No permutation of the noise is nearer to the images."""
    assert fast_assign(x, noise, labels=labels).equal(torch.arange(N))


OBJECTIVES = ("pred_noise", "pred_v", "pred_x0")


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("immiscible", [False, True])
def test_all_targets_are_the_noise_in_x_t(rng, objective, immiscible):
    oracle, images = Oracle(), drawn_images(rng)
    diffusion = Diffusion2D(oracle, image_size=4, objective=objective, immiscible=immiscible)
    assert losses(diffusion, oracle, images).max() < 1e-6
    times = torch.full((N,), 500)
    diffusion(images, times=times)
    x = 2 * images - 1
    assert_assigned(x, diffusion.predict_noise_from_start(oracle.x_t, times, x))


@pytest.mark.parametrize("objective", ["pred_noise", "pred_v"])
def test_their_own_way_has_wrong_targets(rng, objective):
    """The reproduction of what this adapter is for."""
    oracle, images = Oracle(), drawn_images(rng)
    theirs = ddp.GaussianDiffusion(oracle, image_size=4, objective=objective, immiscible=True)
    assert (losses(theirs, oracle, images) < 1e-6).sum() <= 8  # those that happened to stay


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_sequences(rng, objective):
    oracle, images = Oracle(), drawn_images(rng, (2, 8))
    diffusion = Diffusion1D(oracle, seq_length=8, objective=objective)
    assert losses(diffusion, oracle, images).max() < 1e-6


@pytest.mark.parametrize("offset", [0.0, 0.1])
def test_classifier_free_guidance_keeps_noise_in_its_class(rng, offset):
    oracle, images = Oracle(), drawn_images(rng)
    classes = torch.from_numpy(rng.integers(0, 4, N))
    diffusion = Guided(oracle, image_size=4, offset_noise_strength=offset)
    assert losses(diffusion, oracle, images, classes=classes).max() < 1e-6
    torch.manual_seed(3)
    pairs = []
    diffusion.pair_noise = lambda x, noise, labels: pairs.append((x, noise, labels)) or noise
    diffusion(images, classes=classes)
    (x, _, labels), = pairs  # fmt: skip
    assert x.equal(2 * images - 1)
    assert labels is classes


def test_offset_noise_is_part_of_target_and_x_t(rng):
    oracle, images = Oracle(), drawn_images(rng)
    diffusion = Diffusion2D(oracle, image_size=4, offset_noise_strength=0.5)
    assert losses(diffusion, oracle, images).max() < 1e-6


def test_learned_variance_and_weighted_objectives(rng):
    images = drawn_images(rng)
    x = 2 * images - 1
    oracle = Oracle(out_dim=4)
    learned = Learned(oracle, vb_loss_weight=0.0, image_size=4, objective="pred_noise")

    def with_variance(x_t, t):
        eps = learned.predict_noise_from_start(x_t, t, x)
        return torch.cat([eps, torch.zeros_like(eps)], 1)

    assert losses(learned, oracle, images, output=with_variance).max() < 1e-6
    oracle = Oracle(out_dim=6)
    weighted = Weighted(oracle, image_size=4, objective="pred_noise")

    def with_weights(x_t, t):
        eps = weighted.predict_noise_from_start(x_t, t, x)
        return torch.cat([eps, x, torch.zeros_like(x)], 1)

    assert losses(weighted, oracle, images, output=with_weights).max() < 1e-6


@pytest.mark.parametrize("kind", [Continuous, VParam])
def test_continuous_time(rng, kind):
    oracle, images = Oracle(continuous=True), drawn_images(rng)
    x = 2 * images - 1

    def answer(x_t, log_snr):
        alpha, sigma = log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt()
        alpha, sigma = alpha[:, None, None, None], sigma[:, None, None, None]
        eps = (x_t - alpha * x) / sigma
        return eps if kind is Continuous else alpha * eps - sigma * x

    oracle.output = answer
    diffusion = kind(oracle, image_size=4, channels=2)
    row_losses = diffusion(images, times=torch.full((N,), 0.5), loss_reduction="none")
    assert row_losses.max() < 1e-6


def test_elucidated_diffusion_which_draws_inside_forward(rng):
    oracle, images = Oracle(continuous=True), drawn_images(rng)
    diffusion = Elucidated(oracle, image_size=4, channels=2)
    sigma = torch.full((N,), 2.0)
    torch.manual_seed(7)
    drawn = torch.randn(N, *SHAPE)
    torch.manual_seed(7)
    diffusion(images, sigma=sigma).backward()
    x = 2 * images - 1
    noise = (oracle.x_t / diffusion.c_in(2.0) - x) / 2
    assert_assigned(x, noise)
    index = fast_assign(x, drawn)
    assert torch.allclose(noise, drawn[index], atol=1e-5)
    assert oracle.scale.grad is not None


@pytest.mark.parametrize("kind", [Elucidated, Diffusion2D])
def test_what_is_compiled_is_assigned_all_the_same(rng, kind):
    """The network or the whole: a compiler leaves out modes that are entered where it traces."""
    images, seen = drawn_images(rng), []
    oracle = Oracle(continuous=kind is Elucidated)
    diffusion = kind(oracle, image_size=4, **({"channels": 2} if kind is Elucidated else {}))
    time = {"sigma": torch.full((N,), 2.0)}
    if kind is Diffusion2D:
        time = {"times": torch.full((N,), 500)}
    for call in (diffusion, torch.compile(diffusion, backend="eager")):
        torch.manual_seed(7)
        call(images, **time)
        seen.append(oracle.x_t)
    oracle.compile(backend="eager")
    torch.manual_seed(7)
    diffusion(images, **time)
    assert torch.allclose(seen[0], seen[1], atol=1e-6)
    assert torch.allclose(seen[0], oracle.x_t, atol=1e-6)


def test_noise_that_is_passed_is_used_as_it_is(rng):
    oracle, images = Oracle(), drawn_images(rng)
    diffusion = Diffusion2D(oracle, image_size=4, immiscible=True)
    noise = torch.from_numpy(rng.normal(size=(N, *SHAPE))).float()
    times = torch.full((N,), 500)
    for arguments in ((noise,), ()):
        diffusion(images, *arguments, times=times, **({} if arguments else {"noise": noise}))
        found = diffusion.predict_noise_from_start(oracle.x_t, times, 2 * images - 1)
        assert torch.allclose(found, noise, atol=1e-4)


def test_the_pairing_can_be_another(rng):
    class Euclidean(Diffusion2D):
        def pair_noise(self, x, noise, labels=None):
            self.pairs = assign_noise(x, noise, metric="euclidean")
            return self.pairs

    oracle, images = Oracle(), drawn_images(rng)
    diffusion = Euclidean(oracle, image_size=4)
    times = torch.full((N,), 500)
    diffusion(images, times=times)
    found = diffusion.predict_noise_from_start(oracle.x_t, times, 2 * images - 1)
    assert torch.allclose(found, diffusion.pairs, atol=1e-4)


def test_a_mixin_that_would_have_no_effect_is_refused():
    with pytest.raises(TypeError, match="name AssignedNoise before GaussianDiffusion"):

        class Late(ddp.GaussianDiffusion, AssignedNoise):
            pass


def test_a_diffusion_is_copied_and_pickled_as_any_other():
    diffusion = Diffusion2D(Oracle(), image_size=4)
    diffusion.model.output = None
    again = pickle.loads(pickle.dumps(copy.deepcopy(diffusion)))
    assert type(again) is Diffusion2D


class Images(torch.utils.data.Dataset):
    """In the place of a folder of files."""

    def __init__(self, *arguments, shape=SHAPE, **options):
        self.images = torch.rand(100, *shape)

    def __len__(self):
        return 100

    def __getitem__(self, index):
        return self.images[index]


@pytest.mark.filterwarnings("ignore:'pin_memory'")
@pytest.mark.parametrize("flat", [False, True])
def test_their_trainers_train_with_assigned_noise(monkeypatch, tmp_path, flat):
    monkeypatch.setattr(trainers, "Dataset", Images)
    monkeypatch.setattr(trainers, "cpu_count", lambda: 0)
    monkeypatch.setattr(one_d, "cpu_count", lambda: 0)
    oracle, pairs = Oracle(), []
    kind, size = (Diffusion1D, {"seq_length": 8}) if flat else (Diffusion2D, {"image_size": 4})

    class Spied(kind):
        def pair_noise(self, x, noise, labels=None):
            pairs.append((x, super().pair_noise(x, noise, labels)))
            return pairs[-1][1]

    diffusion = Spied(oracle, **size, objective="pred_noise")
    shared = {"train_batch_size": 16, "train_num_steps": 3, "results_folder": str(tmp_path)}
    if flat:
        trainer = one_d.Trainer1D(diffusion, Images(shape=(2, 8)), **shared)
    else:
        trainer = trainers.Trainer(diffusion, "nowhere", calculate_fid=False, **shared)
    trainer.train()
    assert len(pairs) == 3
    for x, noise in pairs:
        assert fast_assign(x, noise).equal(torch.arange(16))
