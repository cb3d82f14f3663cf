"""``AssignedNoise`` in denoising-diffusion-pytorch: every target is the noise that is in x_t."""

from __future__ import annotations

import pytest
import torch
from other_projects import project
from torch import nn

from immiscible_fast import fast_assign
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


def assigned(base):
    return type(f"Assigned{base.__name__}", (AssignedNoise, base), {})


Diffusion2D, Diffusion1D = assigned(ddp.GaussianDiffusion), assigned(ddp.GaussianDiffusion1D)
Elucidated = assigned(ddp.ElucidatedDiffusion)


def drawn_images(rng, shape=SHAPE):
    return torch.from_numpy(rng.random((N, *shape))).float()


# What a loss wants of its model, from x_t alone: zero loss if the target is the noise in x_t.
def target(diffusion, x, x_t, t):
    eps = diffusion.predict_noise_from_start(x_t, t, x)
    wanted = {"pred_noise": eps, "pred_x0": x, "pred_v": diffusion.predict_v(x, t, eps)}
    return wanted[diffusion.objective]


def target_with_variance(diffusion, x, x_t, t):
    eps = target(diffusion, x, x_t, t)
    return torch.cat([eps, torch.zeros_like(eps)], 1)


def target_with_weights(diffusion, x, x_t, t):
    return torch.cat([target(diffusion, x, x_t, t), x, torch.zeros_like(x)], 1)


def target_of_continuous_time(diffusion, x, x_t, log_snr):
    alpha, sigma = (part.sigmoid().sqrt()[:, None, None, None] for part in (log_snr, -log_snr))
    eps = (x_t - alpha * x) / sigma
    is_v = isinstance(diffusion, ddp.VParamContinuousTimeGaussianDiffusion)
    return alpha * eps - sigma * x if is_v else eps


PICTURES, SEQUENCES = {"image_size": 4}, {"seq_length": 8}
CONTINUOUS = PICTURES | {"channels": 2}
NOISE = {"objective": "pred_noise"}
CASES = {  # (class, its options, those of the model, what is wanted of it)
    **{
        f"{kind.__name__} {objective} {extra}": (
            kind, sizes | {"objective": objective} | extra, {}, target
        )
        for kind, sizes, extra in (
            (Diffusion2D, PICTURES, {}), (Diffusion2D, PICTURES, {"immiscible": True}),
            (Diffusion2D, PICTURES, {"offset_noise_strength": 0.5}), (Diffusion1D, SEQUENCES, {}),
        )
        for objective in ("pred_noise", "pred_v", "pred_x0")
    },
    "guided": (assigned(guidance.GaussianDiffusion), PICTURES, {}, target),
    "guided, offset": (assigned(guidance.GaussianDiffusion),
                       PICTURES | {"offset_noise_strength": 0.1}, {}, target),
    "learned": (assigned(ddp.LearnedGaussianDiffusion), PICTURES | NOISE | {"vb_loss_weight": 0.0},
                {"out_dim": 4}, target_with_variance),
    "weighted": (assigned(ddp.WeightedObjectiveGaussianDiffusion), PICTURES | NOISE,
                 {"out_dim": 6}, target_with_weights),
    "continuous": (assigned(ddp.ContinuousTimeGaussianDiffusion), CONTINUOUS,
                   {"continuous": True}, target_of_continuous_time),
    "v-param": (assigned(ddp.VParamContinuousTimeGaussianDiffusion), CONTINUOUS,
                {"continuous": True}, target_of_continuous_time),
}  # fmt: skip


def losses(diffusion, oracle, images, wanted, **arguments):
    oracle.output = lambda x_t, t: wanted(diffusion, 2 * images - 1, x_t, t)
    times = torch.randint(100, 700, (N,))
    if wanted is target_of_continuous_time:
        times = torch.full((N,), 0.5)
    return diffusion(images, times=times, loss_reduction="none", **arguments).detach()


@pytest.mark.parametrize("name", CASES)
def test_all_targets_are_the_noise_in_x_t(rng, name):
    kind, options, model, wanted = CASES[name]
    oracle, images = Oracle(**model), drawn_images(rng, (2, 8) if kind is Diffusion1D else SHAPE)
    diffusion = kind(oracle, **options)
    pairs, pair = [], diffusion.pair_noise

    def noted(x, noise, labels):
        noise = pair(x, noise, labels)
        pairs.append((x, noise.clone(), labels))  # an offset is added in place
        return noise

    diffusion.pair_noise = noted
    classes = torch.from_numpy(rng.integers(0, 4, N)) if name.startswith("guided") else None
    extra = {} if classes is None else {"classes": classes}
    assert losses(diffusion, oracle, images, wanted, **extra).max() < 1e-6
    ((x, noise, labels),) = pairs
    assert x.equal(2 * images - 1)
    assert labels is classes
    assert fast_assign(x, noise, labels=labels).equal(torch.arange(N))  # none is nearer


@pytest.mark.parametrize("objective", ["pred_noise", "pred_v"])
def test_their_own_way_has_wrong_targets(rng, objective):
    """The reproduction of what this adapter is for."""
    oracle, images = Oracle(), drawn_images(rng)
    theirs = ddp.GaussianDiffusion(oracle, image_size=4, objective=objective, immiscible=True)
    right = losses(theirs, oracle, images, target) < 1e-6
    assert right.sum() <= 8  # those that happened to stay


def test_elucidated_diffusion_which_draws_inside_forward(rng):
    oracle, images = Oracle(continuous=True), drawn_images(rng)
    diffusion = Elucidated(oracle, image_size=4, channels=2)
    torch.manual_seed(7)
    drawn = torch.randn(N, *SHAPE)
    torch.manual_seed(7)
    diffusion(images, sigma=torch.full((N,), 2.0)).backward()
    x = 2 * images - 1
    noise = (oracle.x_t / diffusion.c_in(2.0) - x) / 2
    assert torch.allclose(noise, drawn[fast_assign(x, drawn)], atol=1e-5)
    assert oracle.scale.grad is not None


@pytest.mark.parametrize("kind", [Elucidated, Diffusion2D])
def test_what_is_compiled_is_assigned_all_the_same(rng, kind):
    """The network or the whole: a compiler leaves out modes that are entered where it traces."""
    images, seen = drawn_images(rng), []
    oracle = Oracle(continuous=kind is Elucidated)
    diffusion = kind(oracle, **(CONTINUOUS if kind is Elucidated else PICTURES))
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
    for arguments, named in (((noise,), {}), ((), {"noise": noise})):
        diffusion(images, *arguments, times=times, **named)
        found = diffusion.predict_noise_from_start(oracle.x_t, times, 2 * images - 1)
        assert torch.allclose(found, noise, atol=1e-4)


def test_a_mixin_that_would_have_no_effect_is_refused():
    with pytest.raises(TypeError, match="name AssignedNoise before GaussianDiffusion"):

        class Late(ddp.GaussianDiffusion, AssignedNoise):
            pass


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
    pairs = []
    kind, size = (Diffusion1D, SEQUENCES) if flat else (Diffusion2D, PICTURES)

    class Spied(kind):
        def pair_noise(self, x, noise, labels=None):
            pairs.append((x, super().pair_noise(x, noise, labels)))
            return pairs[-1][1]

    diffusion = Spied(Oracle(), **size, objective="pred_noise")
    shared = {"train_batch_size": 16, "train_num_steps": 3, "results_folder": str(tmp_path)}
    if flat:
        trainer = one_d.Trainer1D(diffusion, Images(shape=(2, 8)), **shared)
    else:
        trainer = trainers.Trainer(diffusion, "nowhere", calculate_fid=False, **shared)
    trainer.train()
    assert len(pairs) == 3
    for x, noise in pairs:
        assert fast_assign(x, noise).equal(torch.arange(16))
