"""The cost kernels against float64: on a GPU where there is one, else in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
from samples import METRICS, draw, naive

pytest.importorskip("triton")

import immiscible_fast.kernels.gpu.pairwise as kernels
from immiscible_fast.kernels.gpu.launch import AMD, PROCESSORS, SHARED_MEMORY
from immiscible_fast.kernels.gpu.pairwise import pairwise
from immiscible_fast.kernels.gpu.tiles import launch_parameters

pytestmark = pytest.mark.emulated
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
DISTANCES = ("sqeuclidean", "euclidean", "manhattan")
SHAPES = ((1, 1, 1, 1), (2, 7, 5, 3), (3, 31, 33, 1), (1, 17, 64, 33), (1, 601, 70, 3))
LARGE = (1, 129, 127, 257)  # of products: one coordinate after another takes long to interpret


@pytest.fixture(params=["copied", "as they are"])
def samples_are(request, monkeypatch):
    """Whether samples may be copied for the product; small ones are, unless it is forbidden."""
    if request.param == "as they are":
        monkeypatch.setattr(kernels, "copies_fit", lambda *_: False)


def run(x, y, device, metric, *, out=None, **options):
    """Costs on the CPU, of a fresh ``out`` full of NaN unless one is given."""
    if out is None:
        out = torch.empty(x.shape[0], x.shape[1], y.shape[1])
    out = out.fill_(torch.nan).to(device)
    options = {
        name: value.to(device) if isinstance(value, torch.Tensor) else value
        for name, value in options.items()
    }
    pairwise(x.to(device), y.to(device), out, metric=metric, **options)
    return out.cpu()


def native(x, y, metric):
    """The same costs by float32 operations of torch, for the size of their errors."""
    x, y = x.float(), y.float()
    if metric == "manhattan":
        return torch.cdist(x, y, p=1)
    if metric == "dot":
        return -(x @ y.mT)
    if metric == "cosine":
        one, other = (torch.nn.functional.normalize(z, dim=-1) for z in (x, y))
        return 1 - one @ other.mT
    square = (x * x).sum(-1)[..., None] + (y * y).sum(-1)[..., None, :] - 2 * (x @ y.mT)
    return square.clamp(min=0).sqrt() if metric == "euclidean" else square


def assert_close(cost, x, y, metric, times=4.0):
    """Errors at most some times those of float32 operations, and of one rounding of the result."""
    want, other = naive(x, y, metric), native(x, y, metric)
    if metric == "euclidean":  # a root multiplies errors near zero
        cost, want, other = cost.double().square(), want.square(), other.double().square()
    size = (x.double().norm(dim=-1)[..., None] * y.double().norm(dim=-1)[..., None, :]).max()
    size = 1.0 if metric == "cosine" else max(float(size), float(want.abs().max()))
    allowed = max(float((other - want).abs().max()), torch.finfo(torch.float32).eps * size)
    error = (cost.double() - want).abs()
    assert not error.isnan().any()
    assert float(error.max()) <= times * allowed


@pytest.mark.usefixtures("samples_are")
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", (*SHAPES, LARGE))
def test_costs_are_those_of_the_formula_in_float64(shape, dtype, metric, rng, gpu_device):
    if shape == LARGE and metric == "manhattan":
        shape = (1, 65, 33, 40)
    batch, n, m, d = shape
    x, y = draw(rng, batch, n, d, dtype=dtype), draw(rng, batch, m, d, dtype=dtype)
    assert_close(run(x, y, gpu_device, metric), x, y, metric)


@pytest.mark.usefixtures("samples_are")
@pytest.mark.parametrize("n", [15, 17, 64, 65, 127])
@pytest.mark.parametrize("d", [15, 16, 17, 100])
def test_sizes_around_those_of_tiles(n, d, rng, gpu_device):
    for dtype in DTYPES:
        x, y = draw(rng, 1, n, d, dtype=dtype), draw(rng, 1, 144 - n, d, dtype=dtype)
        assert_close(run(x, y, gpu_device, "sqeuclidean"), x, y, "sqeuclidean")


@pytest.mark.usefixtures("samples_are")
@pytest.mark.parametrize("precision", ["tf32", "tf32x3", "bf16"])
@pytest.mark.parametrize("metric", METRICS)
def test_float32_at_other_precisions(metric, precision, rng, gpu_device):
    x, y = draw(rng, 2, 40, 70, dtype=torch.float32), draw(rng, 2, 33, 70, dtype=torch.float32)
    cost = run(x, y, gpu_device, metric, precision=precision)
    if metric == "euclidean":
        cost, metric = cost.square(), "sqeuclidean"
    if precision == "tf32x3":
        return assert_close(cost, x, y, metric, times=8)
    lost = 0xFFFF if precision == "bf16" else 0x1FFF  # 7 bits are kept, or 10
    cut = [(z.view(torch.int32) & ~lost).view(torch.float32) for z in (x, y)]
    want = naive(x, y, metric)
    allowed = max(float((naive(*cut, metric) - want).abs().max()), 1e-6)
    assert float((cost - want).abs().max()) <= 8 * allowed


def views(rng, dtype):
    """Samples (2, 20, 24) that lie in memory in many ways."""
    yield draw(rng, 2, 24, 20, dtype=dtype).mT  # transposed
    yield draw(rng, 20, 24, 2, dtype=dtype).permute(2, 0, 1)  # batch last
    yield draw(rng, 4, 40, 48, dtype=dtype)[::2, ::2, ::2]  # every second
    yield draw(rng, 1, 20, 24, dtype=dtype).expand(2, -1, -1)  # one problem twice
    yield draw(rng, 2, 1, 24, dtype=dtype).expand(-1, 20, -1)  # one row everywhere
    yield draw(rng, 2, 20, 1, dtype=dtype).expand(-1, -1, 24)  # one number a row
    yield draw(rng, 3, 23, 27, dtype=dtype)[1:, 2:22, 3:]  # inside another


@pytest.mark.usefixtures("samples_are")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("metric", ["sqeuclidean", "cosine", "manhattan"])
def test_samples_may_be_views(metric, dtype, rng, gpu_device):
    plain = draw(rng, 2, 17, 24, dtype=dtype)
    for view in views(rng, dtype):
        for x, y in ((view, plain), (plain, view)):
            assert_close(run(x, y, gpu_device, metric), x, y, metric)


@pytest.mark.parametrize("metric", ["dot", "manhattan"])
def test_shifted_samples_may_be_views(metric, rng, gpu_device):
    plain = draw(rng, 2, 17, 24, dtype=torch.float32)
    shift = draw(rng, 24, 2, dtype=torch.float32).mT.contiguous()[:1].expand(2, -1)
    for view in views(rng, torch.float32):
        cost = run(view, plain, gpu_device, metric, shift_x=shift, shift_y=shift)
        assert_close(cost, view - shift[:, None], plain - shift[:, None], metric)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("room", [(0, 0), (3, 5), (0, 4), (1, 16)])
def test_only_the_costs_are_written(room, dtype, metric, rng, gpu_device):
    for m in (10, 36, 48):
        whole = torch.full((2, 33 + room[0], m + room[1]), torch.nan, dtype=dtype).to(gpu_device)
        x, y = draw(rng, 2, 33, 5, dtype=torch.float32), draw(rng, 2, m, 5, dtype=torch.float32)
        pairwise(x.to(gpu_device), y.to(gpu_device), whole[:, :33, :m], metric=metric)
        whole = whole.cpu()
        want = naive(x, y, metric)
        limit = 1e-5 if dtype == torch.float32 else 1e-3
        atol = limit * max(1.0, float(want.abs().max()))
        assert torch.allclose(whole[:, :33, :m].double(), want, rtol=0, atol=atol)
        assert whole[:, 33:].isnan().all() and whole[:, :, m:].isnan().all()


@pytest.mark.usefixtures("samples_are")
@pytest.mark.parametrize("metric", ["dot", *DISTANCES])
@pytest.mark.parametrize("dtype", DTYPES)
def test_shifts_are_subtracted_before_the_type_of_the_product_is_taken(
    metric, dtype, rng, gpu_device
):
    x, y = draw(rng, 2, 30, 50) + 1e4, draw(rng, 2, 35, 50) + 1e4
    x, y = x.to(dtype), y.to(dtype)
    shift = x.float().mean(1)
    cost = run(x, y, gpu_device, metric, shift_x=shift, shift_y=shift)
    as_seen = torch.float32 if metric == "manhattan" else dtype
    x, y = ((z.float() - shift[:, None]).to(as_seen) for z in (x, y))
    # A double rounding may go the other way for a few entries.
    slack = 4 if dtype == torch.float32 else 40
    assert_close(cost, x, y, metric, times=slack)


@pytest.mark.usefixtures("samples_are")
def test_each_side_may_have_a_shift_of_its_own_or_none(rng, gpu_device):
    x, y = draw(rng, 2, 9, 20, dtype=torch.float32), draw(rng, 2, 8, 20, dtype=torch.float32)
    s, t = draw(rng, 2, 20, dtype=torch.float32), draw(rng, 2, 20, dtype=torch.float32)
    for metric in ("dot", "manhattan"):
        for one, other in ((s, t), (s, None), (None, t), (s[:1].expand(2, -1), t)):
            cost = run(x, y, gpu_device, metric, shift_x=one, shift_y=other)
            left = x if one is None else x - one[:, None]
            right = y if other is None else y - other[:, None]
            assert_close(cost, left, right, metric)


@pytest.mark.parametrize("metric", METRICS)
def test_costs_may_be_scaled_and_halved_in_size(metric, rng, gpu_device):
    x, y = draw(rng, 1, 20, 300), draw(rng, 1, 30, 300)
    x, y = (100 * x).float(), (100 * y).float()
    out = torch.empty(1, 20, 30, dtype=torch.float16)
    cost = run(x, y, gpu_device, metric, scale=2.0**-8, out=out)
    want = naive(x, y, metric) * 2.0**-8
    if metric == "dot":
        want = want.clamp(-65504, 65504)
    assert cost.dtype == torch.float16
    assert torch.allclose(cost.double(), want, rtol=2e-3, atol=1e-2)


@pytest.mark.usefixtures("samples_are")
@pytest.mark.parametrize("metric", METRICS)
def test_unlike_types_are_multiplied_in_float32(metric, rng, gpu_device):
    x, y = draw(rng, 1, 20, 30, dtype=torch.float16), draw(rng, 1, 9, 30, dtype=torch.float32)
    assert_close(run(x, y, gpu_device, metric), x, y, metric)
    assert_close(run(y, x.bfloat16(), gpu_device, metric), y, x.bfloat16(), metric)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("per_problem", [False, True])
def test_tiles_without_a_common_group_are_left_alone(per_problem, metric, rng, gpu_device):
    n, batch = 211, 2
    sizes = [0, *sorted(rng.integers(0, n, size=(batch, 9)).tolist(), key=sum)]
    group = torch.zeros(batch, n, dtype=torch.int32)
    for b in range(batch):
        for cut in sizes[1 + b if per_problem else 1]:
            group[b, cut:] += 1
    x, y = draw(rng, batch, n, 6, dtype=torch.float32), draw(rng, batch, n, 6, dtype=torch.float32)
    cost = run(x, y, gpu_device, metric, group=group if per_problem else group[0].contiguous())
    needed = group[:, :, None] == group[:, None, :]
    want = naive(x, y, metric)
    assert torch.allclose(cost[needed].double(), want[needed], rtol=1e-4, atol=1e-4)
    wholly = torch.arange(n, dtype=torch.int32)  # every row a group: only the diagonal's tiles
    cost = run(x, y, gpu_device, metric, group=wholly)
    assert torch.allclose(
        cost.diagonal(dim1=1, dim2=2).double(), want.diagonal(dim1=1, dim2=2), rtol=1e-4, atol=1e-4
    )
    assert cost[:, 0, -1].isnan().all() and cost[:, -1, 0].isnan().all()


@pytest.mark.usefixtures("samples_are")
@pytest.mark.parametrize("size", [1e-30, 1e-22, 1e-10, 1e10, 1e22, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_cosine_does_not_depend_on_lengths(dtype, size, rng, gpu_device):
    x, y = draw(rng, 1, 6, 9), draw(rng, 1, 7, 9)
    x, y = (size * x).to(dtype), y.to(dtype)
    x[0, 3] = 0
    want = naive(x, y, "cosine")
    want[0, 3] = 1
    assert torch.allclose(run(x, y, gpu_device, "cosine").double(), want, rtol=0, atol=1e-5)
    assert torch.allclose(run(y, x, gpu_device, "cosine").double(), want.mT, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("samples_are")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("metric", DISTANCES)
def test_distances_are_never_negative_and_of_equal_samples_nearly_nothing(
    metric, dtype, rng, gpu_device
):
    x = draw(rng, 1, 60, 100, dtype=dtype) * 10
    shift = draw(rng, 1, 100, dtype=torch.float32) * 10
    for options in ({}, {"shift_x": shift, "shift_y": shift}):
        cost = run(x, x, gpu_device, metric, **options)
        assert (cost >= 0).all()
        assert (cost.diagonal(dim1=1, dim2=2) <= 2e-3 * cost.mean()).all()


@pytest.mark.usefixtures("samples_are")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_a_number_stays_in_its_row(value, metric, rng, gpu_device):
    x, y = draw(rng, 1, 5, 40, dtype=torch.float32), draw(rng, 1, 6, 40, dtype=torch.float32)
    x[0, 2, 7] = value
    cost = run(x, y, gpu_device, metric)
    assert not cost[0, 2].isfinite().any()
    assert cost[0, [0, 1, 3, 4]].isfinite().all()


@pytest.mark.usefixtures("samples_are")
@pytest.mark.parametrize("metric", METRICS)
def test_nothing_and_samples_without_coordinates(metric, gpu_device):
    for batch, n, m in ((0, 3, 3), (2, 0, 3), (2, 3, 0)):
        run(torch.ones(batch, n, 4), torch.ones(batch, m, 4), gpu_device, metric)
    cost = run(torch.ones(2, 3, 0), torch.ones(2, 4, 0), gpu_device, metric)
    assert torch.equal(cost, torch.full((2, 3, 4), 1.0 if metric == "cosine" else 0.0))


def test_double_precision_is_refused(gpu_device):
    x, out = torch.ones(1, 2, 2, device=gpu_device), torch.ones(1, 2, 2, device=gpu_device)
    for case in ((x.double(), x, out), (x, x.double(), out), (x, x, out.double())):
        with pytest.raises(TypeError, match="float64"):
            pairwise(*case, metric="dot")


@pytest.mark.parametrize("capability", [*SHARED_MEMORY, (9, 9)])
def test_launch_parameters_fit_every_device(capability):
    for dtype in DTYPES:
        for n, d, batch in ((1, 1, 1), (64, 3, 1), (300, 3072, 208), (4096, 3072, 1)):
            for precision in ("ieee", "tf32", "tf32x3"):
                for plain, align in ((True, 16), (False, 16), (True, 1), (False, 1)):
                    chosen = launch_parameters(
                        n, n, d, dtype, capability,
                        batch=batch, precision=precision, plain=plain, align=align,
                    )  # fmt: skip
                    assert all(size & (size - 1) == 0 for size in chosen[:4])
                    assert min(chosen[:3]) >= 16 and chosen.num_stages >= 2


def test_few_samples_still_fill_a_device_and_many_get_wide_tiles():
    few = launch_parameters(1024, 1024, 3072, torch.float16, (9, 0))
    tiles = (1024 // few.BLOCK_N) * (1024 // few.BLOCK_M)
    assert tiles >= 0.9 * PROCESSORS[9, 0]
    for capability in ((8, 0), (9, 0)):
        many = launch_parameters(4096, 4096, 3072, torch.float16, capability)
        assert (many.BLOCK_N, many.BLOCK_M) == (128, 256)
    assert launch_parameters(4096, 4096, 3072, torch.float16, AMD).num_stages == 2
