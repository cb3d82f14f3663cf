"""Processes that form a gloo group, forked from this one, and what each of them came to."""

from __future__ import annotations

import multiprocessing
import time
import traceback
from datetime import timedelta

import torch
import torch.distributed as dist

DEADLINE = 150.0  # seconds, after which a group hangs


def launch(size, work, folder, *args, timeout=60.0, deadline=DEADLINE):
    """``work(*args)`` in ``size`` processes of one gloo group: by rank what it returned, or the
    traceback, as a string, of what it raised; None from a process that died."""
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    meeting = f"file://{folder}/meeting-{time.monotonic_ns()}"
    processes = [
        context.Process(target=_one, args=(rank, size, meeting, timeout, answers, work, args))
        for rank in range(size)
    ]
    for process in processes:
        process.start()
    end = time.monotonic() + deadline
    found = {}
    while time.monotonic() < end and any(process.is_alive() for process in processes):
        time.sleep(0.005)
        while not answers.empty():
            rank, answer = answers.get()
            found[rank] = answer
    while not answers.empty():
        rank, answer = answers.get()
        found[rank] = answer
    hung = [process for process in processes if process.is_alive()]
    for process in hung:
        process.kill()
        process.join()
    assert not hung, f"{len(hung)} of {size} processes hang, the others say {found}"
    return [found.get(rank) for rank in range(size)]


def assert_nothing_raised(found):
    """Every rank returned None."""
    first = next((answer for answer in found if answer is not None), None)
    told = [rank for rank, answer in enumerate(found) if answer is not None]
    assert first is None, f"ranks {told} of {len(found)}; the first says\n{first}"


def _one(rank, size, meeting, timeout, answers, work, args):
    torch.set_num_threads(1)
    seconds = timedelta(seconds=timeout)
    dist.init_process_group("gloo", meeting, world_size=size, rank=rank, timeout=seconds)
    try:
        answer = work(*args)
    except BaseException:
        answer = traceback.format_exc()
    answers.put((rank, answer))
    dist.destroy_process_group()
