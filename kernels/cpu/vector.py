"""Row scans written in LLVM vectors, because Numba's own loops do not vectorise them.

Every scan looks at ``v_j = c_ij + p_j`` for row ``i`` of the costs ``c`` (n, width) and the prices
``p`` (width,), 16 columns at a time; both must be contiguous. LLVM lowers the 16 lanes to whatever
the processor has (one AVX-512 register, two AVX, four NEON). Rows have at least 16 columns, and
exactly those that exist are read: the last, partial block is read again as the last 16 columns,
with the lanes that were seen before masked out. The matrix and the row number are passed, rather
than the row, because a view costs a reference count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

WIDTH = 16  # columns in one vector
GROUPS = 8  # minima that row_group_min keeps: each of every eighth column
_UNROLL = 4  # vectors in flight, to hide the latency of the minimum

_I1, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (1, 16, 32, 64))
_EXACT_MIN = ("nnan", "nsz")


class _Row:
    """Builder of the loops over one row; ``value(offset)`` is the vector ``c + p`` there."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        self.b = builder
        self.context = context
        self.signature = signature
        self.args = args
        self.cost = self.row_pointer(0)
        self.price = self.array(2).data
        self.m = builder.extract_value(self.array(0).shape, 1)
        self.cost_type = _scalar(signature.args[0].dtype)
        self.type = _scalar(signature.args[2].dtype)
        self.vector = ir.VectorType(self.type, WIDTH)
        self.whole = builder.and_(self.m, _int(-WIDTH))  # columns in whole vectors

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

    def wide_cost(self, offset: Any) -> Any:
        """The costs there, in the type of the prices."""
        cost = self.load(self.cost, offset, self.cost_type)
        return cost if self.cost_type == self.type else self.b.fpext(cost, self.vector)

    def value(self, offset: Any) -> Any:
        return self.b.fadd(self.wide_cost(offset), self.load(self.price, offset, self.type))

    def splat(self, scalar: Any, scalar_type: Any = None) -> Any:
        vector = ir.VectorType(scalar_type or self.type, WIDTH)
        undefined = ir.Constant(vector, ir.Undefined)
        single = self.b.insert_element(undefined, scalar, ir.Constant(_I32, 0))
        return self.b.shuffle_vector(
            single, undefined, ir.Constant(ir.VectorType(_I32, WIDTH), [0] * WIDTH)
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
        seen = self.b.trunc(self.b.sub(self.whole, offset), _I16)
        return self.b.shl(ir.Constant(_I16, -1), seen)

    def for_each_vector(self, body: Callable[[Any, Any], None]) -> None:
        """``body(offset, mask)`` for every vector; ``mask`` is None but for the partial last
        one."""
        with cgutils.for_range_slice(self.b, _int(0), self.whole, _int(WIDTH), _I64) as (offset, _):
            body(offset, None)
        with self.b.if_then(self.b.icmp_signed("<", self.whole, self.m)):
            offset = self.b.sub(self.m, _int(WIDTH))
            body(offset, self.unseen_lanes(offset))

    def masked(self, value: Any, mask: Any) -> Any:
        """``value`` where the mask is set, infinity elsewhere."""
        if mask is None:
            return value
        lanes = self.b.bitcast(mask, ir.VectorType(_I1, WIDTH))
        return self.b.select(lanes, value, self.infinity())

    def halves(self, vector: Any) -> tuple[Any, Any]:
        width = vector.type.count // 2
        undefined = ir.Constant(vector.type, ir.Undefined)

        def part(first: int) -> Any:
            lanes = ir.Constant(ir.VectorType(_I32, width), list(range(first, first + width)))
            return self.b.shuffle_vector(vector, undefined, lanes)

        return part(0), part(width)

    def fold(self, vector: Any, combine: Callable[[Any, Any], Any]) -> Any:
        """Reduce a vector to one scalar by halves."""
        while vector.type.count > 1:
            vector = combine(*self.halves(vector))
        return self.b.extract_element(vector, ir.Constant(_I32, 0))


class _Top2:
    """Lane-wise smallest and second smallest value, with the column of the smallest."""

    def __init__(self, row: _Row) -> None:
        self.row, self.b = row, row.b
        self.index_vector = ir.VectorType(_I32, WIDTH)
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

    def result(self) -> tuple[Any, Any, Any]:
        """(smallest, second smallest, column of the smallest); of equal ones the smallest
        column."""
        row, b = self.row, self.b
        lanes, column = b.load(self.first), b.load(self.column)
        first, second = lanes, b.load(self.second)
        while first.type.count > 1:
            (first, other), (second, fourth) = row.halves(first), row.halves(second)
            second = row.minimum(row.maximum(first, other), row.minimum(second, fourth))
            first = row.minimum(first, other)
        zero = ir.Constant(_I32, 0)
        best, runner_up = b.extract_element(first, zero), b.extract_element(second, zero)
        ties = b.fcmp_ordered("==", lanes, row.splat(best))
        bits = b.bitcast(ties, _I16)
        lane = b.and_(b.zext(b.cttz(bits, ir.Constant(_I1, 0)), _I32), ir.Constant(_I32, WIDTH - 1))
        winner = cgutils.alloca_once_value(b, b.extract_element(column, lane))
        several = b.icmp_unsigned(
            "!=", b.and_(bits, b.sub(bits, ir.Constant(_I16, 1))), ir.Constant(_I16, 0)
        )
        with b.if_then(several, likely=False):
            largest = ir.Constant(self.index_vector, [2**31 - 1] * WIDTH)
            tied = b.select(ties, column, largest)
            b.store(row.fold(tied, lambda x, y: b.select(b.icmp_signed("<", x, y), x, y)), winner)
        return best, runner_up, b.sext(b.load(winner), _I64)


def _scalar(dtype: Any) -> Any:
    return ir.FloatType() if dtype == types.float32 else ir.DoubleType()


def _int(value: int) -> Any:
    return ir.Constant(_I64, value)


def _iota(builder: Any, row: _Row, offset: Any) -> Any:
    lanes = ir.Constant(ir.VectorType(_I32, WIDTH), list(range(WIDTH)))
    return builder.add(row.splat(builder.trunc(offset, _I32), _I32), lanes)


@intrinsic
def row_group_min(typing, cost, i, price, groups):
    """Write the minima of ``c_ij + p_j`` over 8 groups of columns that cover the row to ``groups``
    (8,)."""
    signature = types.void(cost, types.intp, price, groups)

    def generate(context, builder, signature, args):
        row = _Row(context, builder, signature, args)
        least = [cgutils.alloca_once_value(builder, row.infinity()) for _ in range(_UNROLL)]

        def update(at: int, offset: Any, mask: Any = None) -> None:
            value = row.masked(row.value(offset), mask)
            builder.store(row.minimum(value, builder.load(least[at])), least[at])

        step = WIDTH * _UNROLL
        end = builder.and_(row.m, _int(-step))
        with cgutils.for_range_slice(builder, _int(0), end, _int(step), _I64) as (offset, _):
            for at in range(_UNROLL):
                update(at, builder.add(offset, _int(at * WIDTH)))
        with cgutils.for_range_slice(builder, end, row.whole, _int(WIDTH), _I64) as (offset, _):
            update(0, offset)
        with builder.if_then(builder.icmp_signed("<", row.whole, row.m)):
            offset = builder.sub(row.m, _int(WIDTH))
            update(1, offset, row.unseen_lanes(offset))  # or one entry looks like two that tie
        total = builder.load(least[0])
        for at in range(1, _UNROLL):
            total = row.minimum(total, builder.load(least[at]))
        target = ir.VectorType(row.type, GROUPS).as_pointer()
        halves = row.minimum(*row.halves(total))
        builder.store(halves, builder.bitcast(row.array(3).data, target), align=4)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def row_collect(typing, cost, i, price, limit, index, value, q):
    """Write the columns with ``c_ij + p_j <= limit``, in order, and their ``c_ij``; return how many
    there are.

    They go to row ``q`` of ``index`` and ``value``, as many as it has room for; a larger return
    value says that some were left out.
    """
    signature = types.intp(cost, types.intp, price, price.dtype, index, value, types.intp)

    def generate(context, builder, signature, args):
        row = _Row(context, builder, signature, args)
        room = builder.extract_value(row.array(4).shape, 1)
        first = builder.mul(args[6], room)
        index, value = (builder.gep(row.array(position).data, [first]) for position in (4, 5))
        limit = row.splat(args[3])
        count = cgutils.alloca_once_value(builder, _int(0))
        left = cgutils.alloca_once(builder, _I64)

        def hits(offset: Any) -> Any:
            below = builder.fcmp_ordered("<=", row.value(offset), limit)
            return builder.zext(builder.bitcast(below, _I16), _I64)

        def emit(offset: Any, mask: Any) -> None:
            """Write the columns ``offset + b`` for the bits b set in the mask."""
            builder.store(mask, left)
            head, body, end = (
                builder.append_basic_block(f"hits.{x}") for x in ("head", "body", "end")
            )
            builder.branch(head)
            builder.position_at_end(head)
            bits = builder.load(left)
            builder.cbranch(builder.icmp_unsigned("!=", bits, _int(0)), body, end)
            builder.position_at_end(body)
            column = builder.add(offset, builder.cttz(bits, ir.Constant(_I1, 1)))
            at = builder.load(count)
            with builder.if_then(builder.icmp_signed("<", at, room)):
                builder.store(builder.trunc(column, _I32), builder.gep(index, [at]))
                builder.store(
                    builder.load(builder.gep(row.cost, [column])), builder.gep(value, [at])
                )
            builder.store(builder.add(at, _int(1)), count)
            builder.store(builder.and_(bits, builder.sub(bits, _int(1))), left)
            builder.branch(head)
            builder.position_at_end(end)

        step = (
            WIDTH * _UNROLL
        )  # 64 columns give one word of bits, and one branch that is hard to predict
        blocks = builder.and_(row.m, _int(-step))
        with cgutils.for_range_slice(builder, _int(0), blocks, _int(step), _I64) as (offset, _):
            word = hits(offset)
            for at in range(WIDTH, step, WIDTH):
                word = builder.or_(word, builder.shl(hits(builder.add(offset, _int(at))), _int(at)))
            emit(offset, word)
        with cgutils.for_range_slice(builder, blocks, row.whole, _int(WIDTH), _I64) as (offset, _):
            emit(offset, hits(offset))
        with builder.if_then(builder.icmp_signed("<", row.whole, row.m)):
            offset = builder.sub(row.m, _int(WIDTH))
            emit(offset, builder.and_(hits(offset), builder.zext(row.unseen_lanes(offset), _I64)))
        return builder.load(count)

    return signature, generate


@intrinsic
def row_top2(typing, cost, i, price):
    """(smallest ``c_ij + p_j``, second smallest, column of the smallest); of equal ones the
    smallest column."""
    result = types.Tuple((price.dtype, price.dtype, types.intp))
    signature = result(cost, types.intp, price)

    def generate(context, builder, signature, args):
        row = _Row(context, builder, signature, args)
        best = _Top2(row)
        row.for_each_vector(
            lambda offset, mask: best.update(
                row.masked(row.value(offset), mask), _iota(builder, row, offset)
            )
        )
        return context.make_tuple(builder, signature.return_type, best.result())

    return signature, generate


@intrinsic
def list_top2(typing, value, i, price, index, count):
    """``row_top2`` over a candidate list: columns ``index[i, :count]``, costs ``value[i, :count]``.

    Both arrays (n, room) have room for ``count`` rounded up to 16; beyond it must stand column 0 at
    infinity.
    """
    result = types.Tuple((price.dtype, price.dtype, types.intp))
    signature = result(value, types.intp, price, index, types.intp)

    def generate(context, builder, signature, args):
        row = _Row(context, builder, signature, args)
        columns = row.row_pointer(3)
        best = _Top2(row)
        with cgutils.for_range_slice(builder, _int(0), args[4], _int(WIDTH), _I64) as (offset, _):
            column = row.load(columns, offset, _I32)
            price = ir.Constant(row.vector, ir.Undefined)
            for lane in range(WIDTH):
                at = ir.Constant(_I32, lane)
                j = builder.zext(builder.extract_element(column, at), _I64)
                price = builder.insert_element(price, builder.load(builder.gep(row.price, [j])), at)
            best.update(builder.fadd(row.wide_cost(offset), price), column)
        return context.make_tuple(builder, signature.return_type, best.result())

    return signature, generate


@intrinsic
def row_least(typing, cost, i, price):
    """(s, e): the smallest ``c_ij + p_j`` is s + e exactly, s rounded and e its error; in float64.

    Rounding is monotone, so the least of the exact sums is among the least of the rounded ones.
    Errors (Knuth's two-sum) are looked at only where a block of columns reaches the least so far.
    """
    signature = types.Tuple((types.float64, types.float64))(cost, types.intp, price)

    def generate(context, builder, signature, args):
        row = _Row(context, builder, signature, args)
        first = cgutils.alloca_once_value(builder, row.infinity())
        error = cgutils.alloca_once_value(builder, row.splat(ir.Constant(row.type, 0.0)))
        least = cgutils.alloca_once_value(builder, ir.Constant(row.type, float("inf")))

        def update(offset: Any) -> None:
            c, p = row.wide_cost(offset), row.load(row.price, offset, row.type)
            s = builder.fadd(c, p)
            q = builder.fsub(s, c)
            e = builder.fadd(builder.fsub(c, builder.fsub(s, q)), builder.fsub(p, q))
            best, lost = builder.load(first), builder.load(error)
            less = builder.fcmp_ordered("<", s, best)
            tied = builder.and_(
                builder.fcmp_ordered("==", s, best), builder.fcmp_ordered("<", e, lost)
            )
            builder.store(builder.select(less, s, best), first)
            builder.store(builder.select(builder.or_(less, tied), e, lost), error)

        def fold() -> None:
            builder.store(row.fold(builder.load(first), row.minimum), least)

        step = WIDTH * _UNROLL
        blocks = builder.and_(row.m, _int(-step))
        with cgutils.for_range_slice(builder, _int(0), blocks, _int(step), _I64) as (offset, _):
            offsets = [builder.add(offset, _int(at)) for at in range(0, step, WIDTH)]
            limit = row.splat(builder.load(least))
            hits = ir.Constant(_I16, 0)
            for at in offsets:
                reached = builder.fcmp_ordered("<=", row.value(at), limit)
                hits = builder.or_(hits, builder.bitcast(reached, _I16))
            with builder.if_then(builder.icmp_unsigned("!=", hits, ir.Constant(_I16, 0))):
                for at in offsets:
                    update(at)
                fold()
        with cgutils.for_range_slice(builder, blocks, row.whole, _int(WIDTH), _I64) as (offset, _):
            update(offset)
        with builder.if_then(builder.icmp_signed("<", row.whole, row.m)):
            update(builder.sub(row.m, _int(WIDTH)))
        fold()
        lanes = builder.fcmp_ordered("==", builder.load(first), row.splat(builder.load(least)))
        errors = builder.select(lanes, builder.load(error), row.infinity())
        pair = builder.load(least), row.fold(errors, row.minimum)
        return context.make_tuple(builder, signature.return_type, pair)

    return signature, generate


@intrinsic
def row_min(typing, cost, i, price):
    """Smallest ``c_ij + p_j``, in the type of the prices."""
    signature = price.dtype(cost, types.intp, price)

    def generate(context, builder, signature, args):
        row = _Row(context, builder, signature, args)
        least = cgutils.alloca_once_value(builder, row.infinity())
        row.for_each_vector(
            lambda offset, mask: builder.store(
                row.minimum(row.value(offset), builder.load(least)), least
            )
        )
        return row.fold(builder.load(least), row.minimum)

    return signature, generate


@intrinsic
def row_survey(typing, cost, i, zeros):
    """(largest finite magnitude, smallest, second smallest, column of the smallest) of the costs of
    a row, in their own type, which is that of ``zeros`` (width,); the magnitude is NaN if any cost
    is NaN or minus infinity."""
    result = types.Tuple((zeros.dtype, zeros.dtype, zeros.dtype, types.intp))
    signature = result(cost, types.intp, zeros)

    def generate(context, builder, signature, args):
        row = _Row(context, builder, signature, args)
        best = _Top2(row)
        zero = row.splat(ir.Constant(row.type, 0.0))
        lowest = row.splat(ir.Constant(row.type, float("-inf")))
        largest = cgutils.alloca_once_value(builder, zero)
        valid = cgutils.alloca_once_value(builder, ir.Constant(_I16, -1))

        def update(offset: Any, mask: Any) -> None:
            value = row.masked(row.wide_cost(offset), mask)
            best.update(value, _iota(builder, row, offset))
            above = builder.bitcast(builder.fcmp_ordered(">", value, lowest), _I16)
            builder.store(builder.and_(builder.load(valid), above), valid)
            size = row.maximum(value, builder.fsub(zero, value))
            size = builder.select(builder.fcmp_ordered("<", value, row.infinity()), size, zero)
            builder.store(row.maximum(size, builder.load(largest)), largest)

        row.for_each_vector(update)
        size = row.fold(builder.load(largest), row.maximum)
        nan = ir.Constant(row.type, float("nan"))
        all_valid = builder.icmp_signed("==", builder.load(valid), ir.Constant(_I16, -1))
        size = builder.select(all_valid, size, nan)
        return context.make_tuple(builder, signature.return_type, (size, *best.result()))

    return signature, generate


@intrinsic
def column_min(typing, cost, offset, least, row):
    """Write the minima of the 16 columns from ``offset`` on to ``least`` and the first rows that
    have them to ``row`` (int32); return (largest finite magnitude there, whether every entry is a
    number above -inf)."""
    result = types.Tuple((types.float64, types.boolean))
    signature = result(cost, types.intp, least, row)

    def generate(context, builder, signature, args):
        block = _Row(context, builder, signature, args)
        scalar, start = block.cost_type, block.array(0).data
        rows = builder.extract_value(block.array(0).shape, 0)

        def constant(value: float) -> Any:
            return block.splat(ir.Constant(scalar, value), scalar)

        least = cgutils.alloca_once_value(builder, constant(float("inf")))
        first = cgutils.alloca_once_value(builder, block.splat(ir.Constant(_I32, 0), _I32))
        size = cgutils.alloca_once_value(builder, constant(0.0))
        valid = cgutils.alloca_once_value(builder, ir.Constant(ir.VectorType(_I1, WIDTH), [1] * 16))
        with cgutils.for_range(builder, rows) as loop:
            at = builder.add(builder.mul(loop.index, block.m), args[1])
            value = block.load(start, at, scalar)
            smaller = builder.fcmp_ordered("<", value, builder.load(least))
            number = block.splat(builder.trunc(loop.index, _I32), _I32)
            builder.store(builder.select(smaller, number, builder.load(first)), first)
            builder.store(builder.select(smaller, value, builder.load(least)), least)
            above = builder.fcmp_ordered(">", value, constant(float("-inf")))
            builder.store(builder.and_(builder.load(valid), above), valid)
            negative = builder.fcmp_ordered("<", value, constant(0.0))
            absolute = builder.select(negative, builder.fneg(value), value)
            finite = builder.fcmp_ordered("<", absolute, constant(float("inf")))
            absolute = builder.select(finite, absolute, constant(0.0))
            builder.store(block.maximum(absolute, builder.load(size)), size)
        minima = builder.load(least)
        largest = block.fold(builder.load(size), block.maximum)
        if block.cost_type != block.type:
            minima = builder.fpext(minima, block.vector)
        block.store(minima, block.array(2).data, args[1])
        block.store(builder.load(first), block.array(3).data, args[1])
        largest = largest if scalar == ir.DoubleType() else builder.fpext(largest, ir.DoubleType())
        bits = builder.bitcast(builder.load(valid), _I16)
        every = builder.icmp_unsigned("==", bits, ir.Constant(_I16, -1))
        return context.make_tuple(builder, signature.return_type, [largest, every])

    return signature, generate


@intrinsic
def row_relax(typing, cost, i, price, shift, floor, shut, key, pred, owner):
    """Close column ``shut`` (its key becomes -inf), and offer all that are open ``c_ij + p_j +
    shift``, or ``floor`` if that is more: where it is less than the key it is the new key, and i
    the ``pred``. Return (least key of an open column, column that has it).

    The column is one that nobody owns, if one of those has that key. ``pred`` and ``owner`` are
    int32; an owner below 0 is nobody.
    """
    number, result = price.dtype, types.Tuple((price.dtype, types.intp))
    signature = result(cost, types.intp, price, number, number, types.intp, key, pred, owner)

    def generate(context, builder, signature, args):
        row = _Row(context, builder, signature, args)
        keys, preds, owners = (row.array(position).data for position in (6, 7, 8))
        number = row.splat(builder.trunc(args[1], _I32), _I32)
        shift, floor = row.splat(args[3]), row.splat(args[4])
        shut = row.splat(builder.trunc(args[5], _I32), _I32)
        closed = row.splat(ir.Constant(row.type, float("-inf")))
        nobody = row.splat(ir.Constant(_I32, 0), _I32)
        least = cgutils.alloca_once_value(builder, row.infinity())
        free = cgutils.alloca_once_value(builder, row.infinity())

        def is_free(offset: Any) -> Any:
            return builder.icmp_signed("<", row.load(owners, offset, _I32), nobody)

        def offer(offset: Any, mask: Any) -> None:
            offered = row.maximum(builder.fadd(row.value(offset), shift), floor)
            shuts = builder.icmp_signed("==", _iota(builder, row, offset), shut)
            key = builder.select(shuts, closed, row.load(keys, offset, row.type))
            nearer = row.less(offered, key)
            key = builder.select(nearer, offered, key)
            row.store(key, keys, offset)
            row.store(builder.select(nearer, number, row.load(preds, offset, _I32)), preds, offset)
            opened = builder.select(row.less(closed, key), key, row.infinity())
            builder.store(row.minimum(opened, builder.load(least)), least)
            unowned = builder.select(is_free(offset), opened, row.infinity())
            builder.store(row.minimum(unowned, builder.load(free)), free)

        row.for_each_vector(offer)  # to see some columns twice changes nothing
        best = row.fold(builder.load(least), row.minimum)
        unowned = row.fold(builder.load(free), row.minimum)
        wanted = row.splat(best)
        every = row.splat(builder.fcmp_ordered("<", best, unowned), _I1)
        column = cgutils.alloca_once_value(builder, _int(-1))

        def look(offset: Any, mask: Any) -> None:
            here = builder.fcmp_ordered("==", row.load(keys, offset, row.type), wanted)
            bits = builder.bitcast(builder.and_(here, builder.or_(is_free(offset), every)), _I16)
            lane = builder.zext(builder.cttz(bits, ir.Constant(_I1, 0)), _I64)
            found = builder.icmp_unsigned("!=", bits, ir.Constant(_I16, 0))
            there = builder.select(found, builder.add(offset, lane), builder.load(column))
            builder.store(there, column)

        row.for_each_vector(look)
        return context.make_tuple(builder, signature.return_type, [best, builder.load(column)])

    return signature, generate
