"""Binary heap of integer codes ordered by ``key[code]``, with decrease-key; ``place[code]`` is < 0
outside."""

from __future__ import annotations

from .jit import kernel

OUTSIDE = -1


@kernel
def heap_put(heap, place, key, size, code):
    """Insert ``code``, or move it up after its key fell; return the new size."""
    at = place[code]
    if at < 0:
        at = size
        size += 1
    value = key[code]
    while at > 0:
        parent = (at - 1) >> 1
        above = heap[parent]
        if key[above] <= value:
            break
        heap[at] = above
        place[above] = at
        at = parent
    heap[at] = code
    place[code] = at
    return size


@kernel
def heap_pop(heap, place, key, size):
    """Remove and return the code with the smallest key; the heap then holds ``size - 1``."""
    least = heap[0]
    place[least] = OUTSIDE
    size -= 1
    if size > 0:
        code = heap[size]
        value = key[code]
        at = 0
        while True:
            child = 2 * at + 1
            if child >= size:
                break
            if child + 1 < size and key[heap[child + 1]] < key[heap[child]]:
                child += 1
            below = heap[child]
            if key[below] >= value:
                break
            heap[at] = below
            place[below] = at
            at = child
        heap[at] = code
        place[code] = at
    return least
