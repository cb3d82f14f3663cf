"""The collectives of an assignment over ranks, for any backend that gathers: gloo, nccl."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class Group:
    """A process group, with this process's place in it.

    Every method is a collective: all ranks call it, in the same order. Each sends one message and
    waits for those of the others, or raises a RuntimeError when the group's time-out is over.
    """

    def __init__(self, process_group: Any) -> None:
        self.handle = _checked(process_group)
        self.rank, self.size = dist.get_rank(self.handle), dist.get_world_size(self.handle)
        backends = dist.get_backend_config(self.handle).split(",")  # "cpu:gloo,cuda:nccl"
        self.devices = [backend.partition(":")[0] for backend in backends]

    def device(self, wanted: torch.device) -> torch.device:
        """Where a message has to be: on ``wanted``, if the backend takes that."""
        if wanted.type in self.devices:
            return wanted
        if "cpu" in self.devices:
            return torch.device("cpu")
        return torch.device(self.devices[0], torch.cuda.current_device())

    def words(self, own: Tensor) -> list[list[int]]:
        """Every rank's int64 words (k,), on the host."""
        if self.size == 1:
            return [own.tolist()]
        return self._gather(own.to(self.device(torch.device("cpu")))).tolist()

    def objects(self, own: object) -> list[Any]:
        """Every rank's object; by pickle, so for what happens rarely."""
        found: list[Any] = [own] * self.size
        with _waiting():
            dist.all_gather_object(found, own, group=self.handle)
        return found

    def from_first(self, compute: Callable[[], Any]) -> Any:
        """What ``compute`` gives on rank 0, on the CPU; or on all ranks, what it raises."""
        sent: list[Any] = [None, None]
        if self.rank == 0:
            try:
                sent[0] = compute()
            except (TypeError, ValueError) as error:
                sent[1] = error
            except Exception as error:
                said = f"rank 0 raised {type(error).__name__}: {error}"
                sent[1] = RuntimeError(f"process_group: {said}")
        if self.size > 1:
            device = self.device(torch.device("cpu"))
            source = dist.get_global_rank(self.handle, 0)
            with _waiting():
                dist.broadcast_object_list(sent, source, self.handle, device)
        found, raised = sent
        if raised is not None:
            raise raised
        return found

    def of_first(self, own: Tensor) -> Tensor:
        """The tensor of rank 0."""
        if self.size == 1:
            return own
        message = own.to(self.device(own.device), copy=True)
        with _waiting():
            dist.broadcast(message, dist.get_global_rank(self.handle, 0), self.handle)
        return message.to(own.device)

    def total(self, own: Tensor) -> Tensor:
        """The sum over all ranks."""
        if self.size == 1:
            return own
        message = own.to(self.device(own.device), copy=True)
        with _waiting():
            dist.all_reduce(message, group=self.handle)
        return message.to(own.device)

    def rows(self, counts: Sequence[int], parts: Sequence[Tensor]) -> list[Tensor]:
        """All ranks' rows (counts[r], ...) of each part, one rank after another, (n, ...)."""
        most = max(counts)
        if self.size == 1 or most == 0:
            return list(parts)
        sizes = [part[:0].new_empty(part.shape[1:]).nbytes for part in parts]  # of one row
        starts = [0]
        for size in sizes:
            starts.append(starts[-1] + most * size)
        message = torch.zeros(starts[-1], dtype=torch.uint8, device=parts[0].device)
        for part, start in zip(parts, starts, strict=False):
            data = _as_bytes(part)
            message[start : start + data.numel()] = data
        every = self._gather(message.to(self.device(message.device))).to(message.device)
        found = []
        for part, start, size in zip(parts, starts, sizes, strict=False):
            theirs = [every[r, start : start + n * size] for r, n in enumerate(counts)]
            rows = torch.cat(theirs).view(part.dtype)
            found.append(rows.view(sum(counts), *part.shape[1:]))
        return found

    def exchange(self, counts: Sequence[int], rows: Tensor, index: Tensor) -> Tensor:
        """``all_rows[index]`` of this rank's part of an ``index`` (n,), a permutation that all
        ranks know, of rows (counts[r], ...) that lie where they are: only those that are wanted
        travel."""
        if self.size == 1:
            return rows[index]
        bounds = torch.tensor([0, *counts]).cumsum(0)
        index = index.cpu()
        wanted = torch.split(index, list(counts))
        low, high = int(bounds[self.rank]), int(bounds[self.rank + 1])
        leaving = [part[(part >= low) & (part < high)] - low for part in wanted]
        owner = torch.bucketize(wanted[self.rank], bounds[1:], right=True)
        size = rows[:0].new_empty(rows.shape[1:]).nbytes
        device = self.device(rows.device)
        sent = _as_bytes(rows[torch.cat(leaving).to(rows.device)]).to(device)
        came = torch.empty(counts[self.rank] * size, dtype=torch.uint8, device=device)
        arriving = torch.bincount(owner, minlength=self.size)
        with _waiting():
            dist.all_to_all_single(
                came,
                sent,
                [int(count) * size for count in arriving],
                [len(part) * size for part in leaving],
                group=self.handle,
            )
        came = came.to(rows.device).view(rows.dtype).view(counts[self.rank], *rows.shape[1:])
        order = owner.argsort(stable=True).to(rows.device)
        return torch.empty_like(came).index_copy_(0, order, came)

    def _gather(self, message: Tensor) -> Tensor:
        """(size, k) of every rank's (k,)."""
        every = message.new_empty(self.size * message.numel())
        gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
        with _waiting():
            gather(every, message, group=self.handle)
        return every.view(self.size, -1)


def _checked(process_group: Any) -> Any:
    wanted = "process_group must be a torch.distributed process group"
    if not dist.is_available():
        raise RuntimeError(f"{wanted}, but this torch is built without torch.distributed")
    from torch.distributed.device_mesh import DeviceMesh

    if isinstance(process_group, DeviceMesh):
        if process_group.ndim != 1:
            raise ValueError(
                f"{wanted} or a DeviceMesh of one dimension, got {process_group.ndim} dimensions: "
                "pass mesh[name]"
            )
        process_group = process_group.get_group()
    if process_group is dist.GroupMember.NON_GROUP_MEMBER:
        raise ValueError(f"{wanted} that this process is in, got one that it is not in")
    if not isinstance(process_group, dist.ProcessGroup):
        kind = type(process_group).__name__
        raise TypeError(f"{wanted} or a DeviceMesh of one dimension, got {kind}")
    return process_group


def _as_bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view(-1).view(torch.uint8)


@contextmanager
def _waiting() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise RuntimeError(
            "process_group: a rank died, or did not come to this call within the group's time-out; "
            f"all ranks have to make the same calls in the same order ({error})"
        ) from error
