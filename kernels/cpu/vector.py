"""Loops over rows in LLVM vectors, because Numba's own do not vectorise: what builds them.

Every scan (``scans``, ``passes``) looks at ``v_j = c_ij + p_j`` for row ``i`` of the costs ``c``
(n, width) and the prices ``p`` (width,), 16 columns at a time; both must be contiguous. LLVM lowers
the 16 lanes to whatever the processor has (one AVX-512 register, two AVX, four NEON). Rows have at
least 16 columns, and exactly those that exist are read: the last, partial block is read again as
the last 16 columns, with the lanes that were seen before masked out. The matrix and the row number
are passed, rather than the row, because a view costs a reference count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

WIDTH = 16  # columns in one vector; masks are words of as many bits, so this is no knob
GROUPS = 8  # minima that row_group_min keeps: each of every eighth column
LONG = 512  # columns; in shorter rows, whole blocks are seldom worse than what came before
UNROLL = 4  # vectors in flight, to hide the latency of the minimum; their masks fill 64 bits

I1, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 16, 32, 64))
_EXACT_MIN = ("nnan", "nsz")


class Row:
    """Builder of the loops over one row; ``value(offset)`` is the vector ``c + p`` there."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        self.b = builder
        self.context = context
        self.signature = signature
        self.args = args
        self.cost = self.row_pointer(0)
        self.price = self.array(2).data
        self.m = builder.extract_value(self.array(0).shape, 1)
        self.cost_type = scalar_type(signature.args[0].dtype)
        self.type = scalar_type(signature.args[2].dtype)
        self.vector = ir.VectorType(self.type, WIDTH)
        self.whole = builder.and_(self.m, integer(-WIDTH))  # columns in whole vectors

    def array(self, position: int) -> Any:
        array = self.context.make_array(self.signature.args[position])
        return array(self.context, self.b, self.args[position])

    def row_pointer(self, position: int) -> Any:
        """Start of row ``i`` of the matrix at this argument."""
        matrix = self.array(position)
        width = self.b.extract_value(matrix.shape, 1)
        return self.b.gep(matrix.data, [self.b.mul(self.args[1], width)])

    def load(self, pointer: Any, offset: Any, scalar: Any) -> Any:
        vector = ir.VectorType(scalar, WIDTH).as_pointer()
        align = 8 if isinstance(scalar, ir.DoubleType) else 4
        return self.b.load(self.b.bitcast(self.b.gep(pointer, [offset]), vector), align=align)

    def store(self, vector: Any, pointer: Any, offset: Any) -> None:
        align = 8 if isinstance(vector.type.element, ir.DoubleType) else 4
        target = self.b.bitcast(self.b.gep(pointer, [offset]), vector.type.as_pointer())
        self.b.store(vector, target, align=align)

    def hidden(self, pointer: Any) -> Any:
        """The same pointer, unknown to LLVM: what it takes for another than that of a load, it does
        not store to by a mask, which takes some processors twenty times as long."""
        kind = ir.FunctionType(pointer.type, [pointer.type])
        return self.b.asm(kind, "", "=r,0", [pointer], False)

    def wide_cost(self, offset: Any) -> Any:
        """The costs there, in the type of the prices."""
        cost = self.load(self.cost, offset, self.cost_type)
        return cost if self.cost_type == self.type else self.b.fpext(cost, self.vector)

    def value(self, offset: Any) -> Any:
        return self.b.fadd(self.wide_cost(offset), self.load(self.price, offset, self.type))

    def splat(self, scalar: Any, scalar_type: Any = None) -> Any:
        vector = ir.VectorType(scalar_type or self.type, WIDTH)
        undefined = ir.Constant(vector, ir.Undefined)
        single = self.b.insert_element(undefined, scalar, ir.Constant(I32, 0))
        return self.b.shuffle_vector(
            single, undefined, ir.Constant(ir.VectorType(I32, WIDTH), [0] * WIDTH)
        )

    def infinity(self) -> Any:
        return self.splat(ir.Constant(self.type, float("inf")))

    def less(self, x: Any, y: Any) -> Any:
        return self.b.fcmp_ordered("<", x, y, flags=_EXACT_MIN)

    def minimum(self, x: Any, y: Any) -> Any:
        return self.b.select(self.less(x, y), x, y)

    def maximum(self, x: Any, y: Any) -> Any:
        return self.b.select(self.less(x, y), y, x)

    def unseen_lanes(self, offset: Any) -> Any:
        """Mask of the lanes at ``offset`` (= m - 16) which the whole vectors have not read."""
        seen = self.b.trunc(self.b.sub(self.whole, offset), I16)
        return self.b.shl(ir.Constant(I16, -1), seen)

    def for_each_vector(self, body: Callable[[Any, Any], None], start: Any = None) -> None:
        """``body(offset, mask)`` for every vector from ``start`` on; ``mask`` is None but for the
        partial last one."""
        start = integer(0) if start is None else start
        with cgutils.for_range_slice(self.b, start, self.whole, integer(WIDTH), I64) as (offset, _):
            body(offset, None)
        with self.b.if_then(self.b.icmp_signed("<", self.whole, self.m)):
            offset = self.b.sub(self.m, integer(WIDTH))
            body(offset, self.unseen_lanes(offset))

    def masked(self, value: Any, mask: Any) -> Any:
        """``value`` where the mask is set, infinity elsewhere."""
        if mask is None:
            return value
        lanes = self.b.bitcast(mask, ir.VectorType(I1, WIDTH))
        return self.b.select(lanes, value, self.infinity())

    def halves(self, vector: Any) -> tuple[Any, Any]:
        width = vector.type.count // 2
        undefined = ir.Constant(vector.type, ir.Undefined)

        def part(first: int) -> Any:
            lanes = ir.Constant(ir.VectorType(I32, width), list(range(first, first + width)))
            return self.b.shuffle_vector(vector, undefined, lanes)

        return part(0), part(width)

    def fold(self, vector: Any, combine: Callable[[Any, Any], Any]) -> Any:
        """Reduce a vector to one scalar by halves."""
        while vector.type.count > 1:
            vector = combine(*self.halves(vector))
        return self.b.extract_element(vector, ir.Constant(I32, 0))


class Top2:
    """Lane-wise smallest and second smallest value, with the column of the smallest."""

    def __init__(self, row: Row) -> None:
        self.row, self.b = row, row.b
        self.index_vector = ir.VectorType(I32, WIDTH)
        self.first = cgutils.alloca_once_value(row.b, row.infinity())
        self.second = cgutils.alloca_once_value(row.b, row.infinity())
        self.column = cgutils.alloca_once_value(row.b, ir.Constant(self.index_vector, [-1] * WIDTH))

    def update(self, value: Any, column: Any) -> None:
        row, b = self.row, self.b
        first = b.load(self.first)
        smaller = row.less(value, first)
        b.store(row.minimum(b.load(self.second), row.maximum(first, value)), self.second)
        b.store(b.select(smaller, value, first), self.first)
        b.store(b.select(smaller, column, b.load(self.column)), self.column)

    def for_each_vector(
        self,
        look: Callable[[Any, Any], Any],
        update: Callable[[Any], Any],
        body: Callable[[Any, Any], Any],
    ) -> None:
        """``body(offset, mask)`` for the vectors of a row or, of those of a long one, ``UNROLL`` at
        a time, ``update(offset)`` if any lane may be below the second smallest so far, which
        ``look(offset, second)`` says."""
        row, b = self.row, self.b
        second = cgutils.alloca_once_value(b, ir.Constant(row.type, float("inf")))
        step = WIDTH * UNROLL
        long = b.icmp_signed(">=", row.m, integer(LONG))
        blocks = b.select(long, b.and_(row.m, integer(-step)), integer(0))
        with cgutils.for_range_slice(b, integer(0), blocks, integer(step), I64) as (offset, _):
            offsets = [b.add(offset, integer(at)) for at in range(0, step, WIDTH)]
            limit = row.splat(b.load(second))
            hits = ir.Constant(I16, 0)
            for at in offsets:
                hits = b.or_(hits, b.bitcast(look(at, limit), I16))
            with b.if_then(b.icmp_unsigned("!=", hits, ir.Constant(I16, 0)), likely=False):
                for at in offsets:
                    update(at)
                b.store(self.two()[1], second)
        row.for_each_vector(body, blocks)

    def two(self) -> tuple[Any, Any]:
        """(smallest, second smallest) of all lanes."""
        row, b = self.row, self.b
        first, second = b.load(self.first), b.load(self.second)
        while first.type.count > 1:
            (first, other), (second, fourth) = row.halves(first), row.halves(second)
            second = row.minimum(row.maximum(first, other), row.minimum(second, fourth))
            first = row.minimum(first, other)
        zero = ir.Constant(I32, 0)
        return b.extract_element(first, zero), b.extract_element(second, zero)

    def result(self) -> tuple[Any, Any, Any]:
        """(smallest, second smallest, column of the smallest); of equal ones the smallest
        column."""
        row, b = self.row, self.b
        lanes, column = b.load(self.first), b.load(self.column)
        best, runner_up = self.two()
        ties = b.fcmp_ordered("==", lanes, row.splat(best))
        bits = b.bitcast(ties, I16)
        lane = b.and_(b.zext(b.cttz(bits, ir.Constant(I1, 0)), I32), ir.Constant(I32, WIDTH - 1))
        winner = cgutils.alloca_once_value(b, b.extract_element(column, lane))
        several = b.icmp_unsigned(
            "!=", b.and_(bits, b.sub(bits, ir.Constant(I16, 1))), ir.Constant(I16, 0)
        )
        with b.if_then(several, likely=False):
            largest = ir.Constant(self.index_vector, [2**31 - 1] * WIDTH)
            tied = b.select(ties, column, largest)
            b.store(row.fold(tied, lambda x, y: b.select(b.icmp_signed("<", x, y), x, y)), winner)
        return best, runner_up, b.sext(b.load(winner), I64)


def scalar_type(dtype: Any) -> Any:
    return ir.FloatType() if dtype == types.float32 else ir.DoubleType()


def integer(value: int) -> Any:
    return ir.Constant(I64, value)


def iota(builder: Any, row: Row, offset: Any) -> Any:
    lanes = ir.Constant(ir.VectorType(I32, WIDTH), list(range(WIDTH)))
    return builder.add(row.splat(builder.trunc(offset, I32), I32), lanes)
