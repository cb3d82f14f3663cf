"""``NoisePool``: assignment for small batches, from noises that wait for the images they suit.

1. m noises wait. A batch of n <= m images x takes n of them, those that maximise the sum of
   (x - mean).e over all ways to use each at most once: a rectangular assignment.
2. ``mean`` is the running mean of the images. Without it every image would want the noises along
   the mean image, and those against it would wait for ever.
3. n fresh noises take the places of those that went. So each noise that was ever drawn is used
   once or still waits: what has been used is Gaussian but for m of all noises.
4. A noise has the number of an image for its birth, and no two have the same. If it must not wait
   for more than ``max_age`` images, no batch has more noises that are due than images, and a reward
   that outweighs all else makes the assignment use all that are due.
"""

from __future__ import annotations

import warnings
from threading import RLock
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from .. import validation
from ..api.pairwise_cost import pairwise_cost
from ..api.solve_assignment import solve_assignment
from ..samples import draw_noise, outside_autocast

_Key = tuple[tuple[int, ...], torch.dtype, int | None]  # shape of an image, dtype, class

STATE_KEYS = frozenset({"size", "labels", "pools", "generator"})
POOL_KEYS = frozenset({"label", "noise", "births", "mean", "images"})


class NoisePool:
    """Noise for batches of 1 to 64 images: each takes what suits it from noises that wait.

    Assignment within a batch can do little if the batch is small, and nothing at batch size 1.
    Here the images choose among ``size`` noises, and still each noise is used once, so that over
    the training the noise is as Gaussian as if it were drawn for each batch. That of a single
    image is not: it leans towards the image, which is the point.

    Parameters
    ----------
    size : int
        Noises that wait for images of one shape. A larger pool suits the images better, and costs
        its memory and the time to read it once a batch.
    generator : torch.Generator, optional
        Draws all noise, on its own device; the global random state is then not touched. Without
        it, torch's global generator of the images' device draws.
    labels : bool
        A pool for each class, and ``take`` wants labels: a class-conditional model then sees the
        whole Gaussian in every class. Memory grows with the number of classes.
    max_age : int, optional
        No noise waits while more than so many images (of its pool) go by: those that are due are
        used, whether they suit or not. At least ``size``, where most always are; some times that
        costs next to nothing. None: a few, far out on a side where images are rare, wait very long.
    dtype : torch.dtype, optional
        Of the noise; None: that of the images.
    score_dtype : torch.dtype, optional
        bfloat16 reads a copy of the pool in that type to choose from, which is half as long and
        leaves the same choice but for near ties; float32 reads the pool itself. None: bfloat16
        where the device multiplies in it (GPUs, CPUs with AVX-512 BF16), for noise of 32 bits or
        fewer. The noise that is handed out is never rounded.

    Notes
    -----
    A pool is made when the first image of its shape (dtype, class) comes, and stays; it lives on
    the device of the images, and follows them. On a GPU nothing waits for the device if the
    generator, if any, is on it, and labels are on the CPU.

    A batch larger than the pool takes all that wait and as many fresh noises as are missing, which
    is assignment within the batch.

    Threads may share a pool. Copies and pickles are independent of the original, their generators
    included: so the workers of a ``DataLoader`` would all hand out the same noise, and the first
    ``take`` in one warns. Take noise where the batches arrive.

    Examples
    --------
    >>> import torch
    >>> pool = NoisePool(64, generator=torch.Generator().manual_seed(0))
    >>> x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))  # batch size 1
    >>> noise = pool.take(x)
    >>> noise.shape
    torch.Size([1, 3, 8, 8])
    >>> pool.state_dict()["pools"][0]["images"]
    1
    """

    def __init__(
        self,
        size: int,
        *,
        generator: torch.Generator | None = None,
        labels: bool = False,
        max_age: int | None = None,
        dtype: torch.dtype | None = None,
        score_dtype: torch.dtype | None = None,
    ) -> None:
        self._size = validation.check_count("size", size)
        self._generator = validation.check_generator(generator)
        self._labels = validation.check_flag("labels", labels)
        self._max_age = None if max_age is None else validation.check_count("max_age", max_age)
        if self._max_age is not None and self._max_age < self._size:
            raise ValueError(f"max_age must be at least size, {self._size}, got {max_age}")
        for name, value in (("dtype", dtype), ("score_dtype", score_dtype)):
            if value is not None:
                validation.check_dtype(name, value)
        if score_dtype not in (None, torch.float32, torch.bfloat16):
            raise ValueError(f"score_dtype must be float32, bfloat16 or None, got {score_dtype}")
        self._dtype, self._score_dtype = dtype, score_dtype
        self._pools: dict[_Key, _Pool] = {}
        self._lock = RLock()
        self._warned: set[str] = set()

    def __repr__(self) -> str:
        return f"NoisePool({self._size}, labels={self._labels}, max_age={self._max_age})"

    @torch.inference_mode(False)
    @torch.no_grad()
    def take(self, x: Tensor, labels: Any = None) -> Tensor:
        """Noise for a batch, each out of the pool for good; fresh noises take their places.

        Parameters
        ----------
        x : Tensor, shape (n, ...)
            Images or latents, any float dtype, n >= 0. Not modified.
        labels : integers, shape (n,)
            Class of each image, if the pool was made with ``labels=True``.

        Returns
        -------
        Tensor, shape (n, ...)
            On the device of ``x``, in its dtype unless the pool has one of its own. Use it to
            corrupt ``x`` *and* as the target.

        Raises
        ------
        TypeError, ValueError
            Naming the argument, what it got and what it wants. NaN and infinities are refused on
            a CPU; on a GPU they give some of the noises, and the running mean leaves them out.
        """
        images = validation.check_samples("x", x, False).as_subclass(Tensor)
        validation.check_values("x", images)
        if (labels is not None) != self._labels:
            wanted = "given" if self._labels else "left out"
            got = "none" if labels is None else "some"
            raise ValueError(
                f"labels must be {wanted} where the pool has labels={self._labels}, got {got}"
            )
        if get_worker_info() is not None:
            self._warn("the copies of a NoisePool in workers of a DataLoader hand out equal noise")
        if len(images) == self._size == 1:
            self._warn("of one noise and one image there is no choice: give NoisePool a size")
        with self._lock:
            if labels is None:
                return self._take(images, None)
            dtype = self._dtype or images.dtype
            noise = torch.empty(images.shape, dtype=dtype, device=images.device)
            classes = validation.check_labels(labels, images.shape[:1]).tolist()
            for label in sorted(set(classes)):
                members = [i for i, other in enumerate(classes) if other == label]
                rows = torch.tensor(members, device="cpu").to(images.device, non_blocking=True)
                noise.index_copy_(0, rows, self._take(images[rows], label))
            return noise

    def _warn(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            warnings.warn(message, stacklevel=5)  # of the two decorators of take, too

    def _take(self, x: Tensor, label: int | None) -> Tensor:
        dtype = self._dtype or x.dtype
        if len(x) == 0:
            return torch.empty(x.shape, dtype=dtype, device=x.device)
        key = (tuple(x.shape[1:]), dtype, label)
        pool = self._pools.get(key)
        if pool is None:
            noise = draw_noise(x, self._generator, self._size, dtype)
            births = torch.arange(1 - self._size, 1, device=x.device)
            wide = torch.float64 if x.dtype == torch.float64 else torch.float32
            mean = torch.zeros(x.shape[1:].numel(), dtype=wide, device=x.device)
            pool = self._pools[key] = _Pool(noise, births, mean, 0)
        pool.move(x.device, self._score_dtype)
        with outside_autocast(x):
            fresh = draw_noise(x, self._generator, dtype=dtype)
            return pool.take(x, fresh, self._max_age)

    def state_dict(self) -> dict[str, Any]:
        """All that ``load_state_dict`` needs to go on with the same bits: a copy.

        Returns
        -------
        dict
            Of tensors, numbers, None, lists and dicts, as ``torch.load(weights_only=True)`` reads
            them: ``size``, ``labels``, the state of the generator, if there is one, and ``pools``,
            a list with a dict for each shape, dtype and class: its ``label``, the ``noise`` that
            waits (m, ...), its ``births`` (m,), the running ``mean`` (D,) and the number of
            ``images`` seen. An image's number, from 1, is the birth of the noise drawn after it.
        """
        generator = self._generator
        with self._lock:
            return {
                "size": self._size,
                "labels": self._labels,
                "generator": None if generator is None else generator.get_state(),
                "pools": [
                    {"label": label, **pool.state_dict()}
                    for (_, _, label), pool in self._pools.items()
                ],
            }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state; tensors may be on any device, and are copied.

        Parameters
        ----------
        state : dict
            What ``state_dict`` returned, of a pool with the same ``size``, ``labels``, and a
            generator or none. ``max_age`` and the dtypes are this pool's own.

        Raises
        ------
        TypeError, ValueError
            If it is another state; nothing is loaded then.
        """
        validation.check_state(state, STATE_KEYS)
        for name, own in (("size", self._size), ("labels", self._labels)):
            if state[name] != own:
                raise ValueError(f"state must be of a pool with {name}={own}, got {state[name]}")
        if (state["generator"] is None) != (self._generator is None):
            wanted = "without a generator" if self._generator is None else "with a generator"
            raise ValueError(f"state must be of a pool {wanted}, as this one")
        pools: dict[_Key, _Pool] = {}
        for saved in state["pools"]:
            validation.check_state(saved, POOL_KEYS)
            noise, births, mean = (
                saved[name].clone(memory_format=torch.contiguous_format)
                for name in ("noise", "births", "mean")
            )
            validation.check_shape("noise", noise, len(noise) == self._size, f"({self._size}, ...)")
            key = (tuple(noise.shape[1:]), noise.dtype, saved["label"])
            pools[key] = _Pool(noise, births, mean, saved["images"])
        with self._lock:
            if self._generator is not None:
                try:
                    self._generator.set_state(state["generator"].cpu())
                except RuntimeError as error:  # torch's words tell only that the sizes differ
                    device = self._generator.device
                    raise ValueError(f"state must be of a generator on {device}") from error
            self._pools = pools

    def __getstate__(self) -> dict[str, Any]:
        device = None if self._generator is None else str(self._generator.device)
        options = {
            "labels": self._labels,
            "max_age": self._max_age,
            "dtype": self._dtype,
            "score_dtype": self._score_dtype,
        }
        return {"options": options, "generator_device": device, "state": self.state_dict()}

    def __setstate__(self, saved: dict[str, Any]) -> None:
        device, state = saved["generator_device"], saved["state"]
        generator = None if device is None else torch.Generator(device)
        NoisePool.__init__(self, state["size"], generator=generator, **saved["options"])
        self.load_state_dict(state)


class _Pool:
    """Noises (m, ...) of one shape that wait, their births (m,), the mean (D,) of the images."""

    def __init__(self, noise: Tensor, births: Tensor, mean: Tensor, images: int) -> None:
        self.noise, self.births, self.mean, self.images = noise, births, mean, images
        self.narrow: Tensor | None = None  # (m, D) bfloat16, what the scores are computed from

    def state_dict(self) -> dict[str, Any]:
        return {
            "noise": self.noise.clone(),
            "births": self.births.clone(),
            "mean": self.mean.clone(),
            "images": self.images,
        }

    def move(self, device: torch.device, score_dtype: torch.dtype | None) -> None:
        """Follow the images to their device, and have there what the scores are computed from."""
        if self.noise.device != device:
            self.noise, self.births = self.noise.to(device), self.births.to(device)
            self.mean, self.narrow = self.mean.to(device), None
        if score_dtype is None and self.noise.dtype != torch.float64:
            score_dtype = torch.bfloat16 if _multiplies_bfloat16(device) else torch.float32
        if self.narrow is None and score_dtype == torch.bfloat16:
            self.narrow = _flat(self.noise).to(torch.bfloat16)  # a view, if that is its dtype

    def take(self, x: Tensor, fresh: Tensor, max_age: int | None) -> Tensor:
        """Noise for ``x`` (n, ...), n >= 1; ``fresh`` (n, ...) takes its place."""
        n, m = len(x), len(self.noise)
        seen = self.images + n
        births = torch.arange(self.images + 1, seen + 1, device=x.device)
        centred, mean = self._centred(_flat(x), seen)
        if n > m:  # all that wait, and as many of the fresh ones as are missing
            candidates = torch.cat([self.noise, fresh[: n - m]])
            cost = pairwise_cost(centred, _flat(candidates), metric="dot")
            taken = candidates[solve_assignment(cost, method="exact").index]
            places = torch.arange(m, device=x.device)
            fresh, births = fresh[n - m :], births[n - m :]
        else:
            cost = self._cost(centred)
            if max_age is not None:
                cost = _rewarded(cost, self.births < seen - max_age)
            places = solve_assignment(cost, method="exact").index
            taken = self.noise[places]
        self.images, self.mean = seen, mean
        self.noise.index_copy_(0, places, fresh)
        self.births.index_copy_(0, places, births)
        if self.narrow is not None and self.noise.dtype != torch.bfloat16:
            self.narrow.index_copy_(0, places, _flat(fresh).to(torch.bfloat16))
        return taken

    def _centred(self, x: Tensor, seen: int) -> tuple[Tensor, Tensor]:
        """Images (n, D) less the mean of all ``seen``, these included, and that mean."""
        mean = self.mean.lerp(x.mean(0, dtype=self.mean.dtype), len(x) / seen)
        if not validation.may_look(x):  # where bad images were not refused, they spoil this batch
            mean = torch.where(mean.isfinite(), mean, self.mean)
        return x.to(mean.dtype) - mean, mean

    def _cost(self, centred: Tensor) -> Tensor:
        """Costs (n, m): less where noise is along the image."""
        if self.narrow is None:
            return pairwise_cost(centred, _flat(self.noise), metric="dot")
        return -(centred.to(torch.bfloat16) @ self.narrow.mT).to(torch.float32)


def _rewarded(cost: Tensor, due: Tensor) -> Tensor:
    """Costs (n, m) by which all columns that are ``due`` (m,), n at most, are used: to take one in
    place of another changes the cost of n pairs, each by 2 at most where costs are in [-1, 1]."""
    largest = cost.abs().amax().clamp(min=torch.finfo(cost.dtype).tiny)
    return (cost / largest).to(torch.float64) - (2 * len(cost) + 1) * due.to(torch.float64)


def _flat(x: Tensor) -> Tensor:
    return x.reshape(len(x), x.shape[1:].numel())


def _multiplies_bfloat16(device: torch.device) -> bool:
    """Whether products of bfloat16 take less time than those of float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    known = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # in newer versions of torch
    return device.type == "cpu" and known is not None and bool(known())
