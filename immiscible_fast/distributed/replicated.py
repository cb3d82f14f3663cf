"""Every rank gathers the batches of all, solves the same problem and keeps its own part.

1. Ranks agree on what is asked, and learn each other's numbers of rows (``agreement.py``).
2. The rows of x and of noise, labels and conditions of all ranks travel in one message; of
   features, only what the cost sees.
3. Each rank solves the whole problem as one process would, so that the bits of the answer do not
   depend on the number of ranks. On CPUs, which processes may share, and where ranks could round
   differently because their devices or versions differ, rank 0 solves and sends the answer.
4. The noise of this rank's images is here, unless the cost saw features: then each noise travels
   once, to the rank that it was assigned to.

Noise from a generator that is in the same state on all ranks is drawn by each for all of them, and
does not travel.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from .. import validation
from ..conditions import check_conditions
from ..metrics import METRICS
from ..samples import draw_noise, flatten_samples, outside_autocast, permuted
from ..statistics import AssignmentStats
from . import sharded
from .agreement import Words, agree, hashed_state, sums, warn_if_drawn_alike
from .group import Group

Answer: TypeAlias = tuple[Tensor, AssignmentStats | None]  # index (n,) or (B, n) of the whole batch


class Batch(NamedTuple):
    """A rank's part of the batch, or all of it; samples first, (n, ...) or (n, B, ...)."""

    x: Tensor  # or features of it
    noise: Tensor | None  # or features of it; None: to be drawn
    labels: Tensor | None
    conditions: Tensor | None
    behind: Tensor | None = None  # noise that the cost sees only the features of


@torch.compiler.disable  # type: ignore[untyped-decorator]
def assign_over_ranks(
    solve: Callable[..., Any],
    caller: str,
    x: Tensor,
    noise: Tensor | torch.Generator,
    process_group: Any,
    batched: bool,
    return_stats: bool,
    options: Mapping[str, Any],
) -> tuple[Tensor, Tensor | None, AssignmentStats | None]:
    """This rank's index into the noise of all ranks; its noise, unless the ``caller`` is
    "fast_assign"; and the statistics of the whole batch. ``solve`` is the ``fast_assign`` of one
    process, and ``options`` are those of its other options that are given."""
    options = {**_defaults(solve), **options}
    if options["max_memory"] is None:  # what is free is not the same on all ranks
        options["max_memory"] = math.inf
    group = Group(process_group)
    parts: list[Batch] = []

    def prepare() -> tuple[dict[str, str], list[Tensor | int]]:
        part = _checked(x, noise, batched, options)
        parts.append(part)
        terms = _terms(part, caller, batched, return_stats, options)
        return terms, [len(part.x), *_looks(part, noise)]

    words = agree(group, prepare, x.device if isinstance(x, Tensor) else None)
    warn_if_drawn_alike(words)
    counts = [one.rows for one in words]
    part = parts[0]
    shared = False
    if isinstance(noise, torch.Generator):
        shared = len({one.noise_state for one in words}) == 1
        part = part._replace(noise=_drawn(noise, part.x, words))
    plain = (
        not batched and part.labels is None and part.conditions is None and options["mask"] is None
        and (options["features"] is None or part.behind is not None)
    )  # fmt: skip
    if plain and sharded.is_sharded(group.size, sum(counts), options["method"]):
        index, everyone, stats = _in_shards(group, counts, part, shared, return_stats, options)
    else:
        whole = _turned(_gathered(group, counts, part, shared), batched)
        assert whole.noise is not None
        everyone = whole.noise
        problem = {**options, "batched": batched, "return_stats": return_stats}
        if part.behind is not None:
            problem["features"] = None
        index, stats = _solved(group, words, whole, solve, problem)
    start = sum(counts[: group.rank])
    own = index[..., start : start + counts[group.rank]].clone()
    if caller == "fast_assign":
        return own, None, stats
    if part.behind is None:
        return own, permuted(everyone, own), stats
    return own, _sent(group, counts, part.behind, index), stats


def _in_shards(
    group: Group,
    counts: Sequence[int],
    part: Batch,
    shared: bool,
    return_stats: bool,
    options: Mapping[str, Any],
) -> tuple[Tensor, Tensor, AssignmentStats | None]:
    """The index of all rows, the noise of all ranks, and the statistics; see ``sharded.py``."""
    metric, check = options["metric"], options["check"]
    validation.check_choice("metric", metric, METRICS)
    tol = validation.check_positive("tol", options["tol"])
    validation.check_flag("check", check)
    validation.check_flag("return_stats", return_stats)
    assert part.noise is not None
    everyone = part.noise if shared else group.rows(counts, [part.noise])[0]
    x, noise = flatten_samples(part.x, everyone, False)
    with outside_autocast(x):
        found = sharded.solve(group, counts, x, noise, metric, tol)
    if check and not found.converged:
        raise RuntimeError(f"tol={tol} is not reached by sharded Sinkhorn, the gap is {found.gap}")
    if not return_stats:
        return found.index, everyone, None
    start = sum(counts[: group.rank])
    rows = torch.arange(start, start + len(x), device=x.device)
    index = found.index[rows]
    pairs = noise[rows], noise[index], (index != rows).sum()
    return found.index, everyone, sharded.statistics(group, x, *pairs, metric, found.gap)


@functools.cache
def _defaults(solve: Callable[..., Any]) -> dict[str, Any]:
    """Options of ``fast_assign`` that may be given for this rank."""
    others = "batched", "return_stats", "process_group"
    parameters = inspect.signature(solve).parameters.values()
    keywords = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in others]
    return {p.name: p.default for p in keywords}


def _checked(
    x: Tensor, noise: Tensor | torch.Generator, batched: bool, options: Mapping[str, Any]
) -> Batch:
    """This rank's arguments, as ``fast_assign`` checks them."""
    if isinstance(noise, torch.Generator):
        images = noises = validation.check_samples("x", x, batched)
    else:
        images, noises = validation.check_pair("x", x, "noise", noise, batched, same_count=True)
    if validation.is_traced(images, noises):
        raise TypeError("process_group takes plain tensors, got x or noise under a tracer")
    validation.check_data("x", images)
    lead = images.shape[: 1 + batched]
    labels, conditions, behind = options["labels"], None, None
    if labels is not None:
        labels = validation.check_labels(labels, lead).to(images.device)
    weights = options["condition_weight"], options["condition_share"]
    soft = check_conditions(options["conditions"], *weights, lead, images.device)
    if soft is not None:
        conditions = soft.values if batched else soft.values[0]
    if isinstance(noise, torch.Generator):
        return _turned(Batch(images, None, labels, conditions), batched)
    if options["features"] is not None:
        behind = noises
        with torch.no_grad():
            images, noises = validation.call_features(options["features"], images, noises, batched)
    return _turned(Batch(images, noises, labels, conditions, behind), batched)


def _turned(batch: Batch, batched: bool) -> Batch:
    """Samples first if they were second, and the other way round."""
    if not batched:
        return batch
    parts: list[Any] = [part if part is None else part.movedim(1, 0).contiguous() for part in batch]
    return Batch(*parts)


def _looks(part: Batch, noise: Tensor | torch.Generator) -> list[Tensor | int]:
    """The words from ``noise_state`` on, but for the machine's."""
    x_finite, _ = sums(part.x)
    if isinstance(noise, torch.Generator):
        return [hashed_state(noise), x_finite, 1, 0]
    assert part.noise is not None
    finite, total = sums(part.noise if part.behind is None else part.behind)
    return [0, x_finite, finite, total]


def _terms(
    part: Batch, caller: str, batched: bool, return_stats: bool, options: Mapping[str, Any]
) -> dict[str, str]:
    """On what all ranks have to agree."""
    seen = "" if part.behind is None else "features of "
    terms = {
        "the function called": caller,
        "batched": repr(batched),
        f"one sample of {seen}x": f"{tuple(part.x.shape[1:])} {part.x.dtype}",
        "device of x": part.x.device.type,
        "noise": "a generator" if part.noise is None else f"of {part.noise.dtype}",
        "labels": "None" if part.labels is None else "given",
        "conditions": "None",
        "return_stats": repr(return_stats),
    }
    if part.behind is not None:
        terms["one sample of noise"] = f"{tuple(part.behind.shape[1:])} {part.behind.dtype}"
    if part.conditions is not None:
        kind = part.conditions.dtype
        width = part.conditions.shape[1 + batched :]
        terms["conditions"] = f"embeddings {tuple(width)} {kind}" if width else "classes"
    for name in sorted(options):
        if name not in ("labels", "conditions"):
            terms[name] = _described(options[name])
    return terms


def _described(option: Any) -> str:
    if isinstance(option, Tensor):
        data = option.detach().cpu().contiguous()
        if data.numel() == 1:
            return f"{data.item()} {data.dtype}"
        digest = hashlib.sha256(data.view(-1).view(torch.uint8).numpy().tobytes()).hexdigest()[:8]
        return f"{tuple(data.shape)} {data.dtype} with SHA-256 {digest}..."
    return "given" if callable(option) else repr(option)


def _drawn(generator: torch.Generator, x: Tensor, words: Sequence[Words]) -> Tensor:
    """Noise of the whole batch, from one state on all ranks; or of this rank, from a state of its
    own."""
    states = {one.noise_state for one in words}
    if 1 < len(states) < len(words):
        raise ValueError(
            "noise must be a generator in one state on all ranks, or in another on each, got "
            f"{len(states)} states on {len(words)} ranks"
        )
    return draw_noise(x, generator, sum(one.rows for one in words) if len(states) == 1 else None)


def _gathered(group: Group, counts: Sequence[int], part: Batch, shared: bool) -> Batch:
    """The whole batch, of which every rank has the noise if that is ``shared``."""
    here = {"behind", "noise"} if shared else {"behind"}
    sent = {k: v for k, v in part._asdict().items() if v is not None and k not in here}
    rows = group.rows(counts, list(sent.values()))
    return part._replace(behind=None, **dict(zip(sent, rows, strict=True)))


def _solved(
    group: Group,
    words: Sequence[Words],
    whole: Batch,
    solve: Callable[..., Any],
    problem: Mapping[str, Any],
) -> Answer:
    """Point 3."""

    def solved() -> Answer:
        given = {**problem, "labels": whole.labels, "conditions": whole.conditions}
        found = solve(whole.x, whole.noise, **given)
        return found if problem["return_stats"] else (found, None)

    if group.size == 1 or all_solve(whole.x, words):
        return solved()

    def sent() -> Answer:
        index, stats = solved()
        return index.cpu(), stats and AssignmentStats(*[field.cpu() for field in stats])

    index, stats = group.from_first(sent)
    device = whole.x.device
    return index.to(device), stats and AssignmentStats(*[field.to(device) for field in stats])


def all_solve(x: Tensor, words: Sequence[Words]) -> bool:
    """Whether all ranks solve, each with a device of its own, and with the same bits."""
    return x.is_cuda and len({one.machine for one in words}) == 1


def _sent(group: Group, counts: Sequence[int], noise: Tensor, index: Tensor) -> Tensor:
    """Point 4, of noise (n_r, ...) or (n_r, B, ...) and the whole index."""
    if index.ndim == 1:
        return group.exchange(counts, noise, index)
    problems = len(index)
    flat = index.mT * problems + torch.arange(problems, device=index.device)
    rows = group.exchange(
        [count * problems for count in counts], noise.flatten(0, 1), flat.flatten()
    )
    return rows.view(-1, problems, *noise.shape[2:]).movedim(1, 0)
