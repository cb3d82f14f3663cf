"""Scans of a row, or of its candidate list, for its best columns; see ``vector`` for the loops."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from .vector import GROUPS, I1, I16, I32, I64, UNROLL, WIDTH, Row, Top2, integer, iota


@intrinsic
def row_group_min(typing, cost, i, price, groups):
    """Write the minima of ``c_ij + p_j`` over 8 groups of columns that cover the row to ``groups``
    (8,)."""
    signature = types.void(cost, types.intp, price, groups)

    def generate(context, builder, signature, args):
        row = Row(context, builder, signature, args)
        least = [cgutils.alloca_once_value(builder, row.infinity()) for _ in range(UNROLL)]

        def update(at: int, offset: Any, mask: Any = None) -> None:
            value = row.masked(row.value(offset), mask)
            builder.store(row.minimum(value, builder.load(least[at])), least[at])

        step = WIDTH * UNROLL
        end = builder.and_(row.m, integer(-step))
        with cgutils.for_range_slice(builder, integer(0), end, integer(step), I64) as (offset, _):
            for at in range(UNROLL):
                update(at, builder.add(offset, integer(at * WIDTH)))
        with cgutils.for_range_slice(builder, end, row.whole, integer(WIDTH), I64) as (offset, _):
            update(0, offset)
        with builder.if_then(builder.icmp_signed("<", row.whole, row.m)):
            offset = builder.sub(row.m, integer(WIDTH))
            update(1, offset, row.unseen_lanes(offset))  # or one entry looks like two that tie
        total = builder.load(least[0])
        for at in range(1, UNROLL):
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
        row = Row(context, builder, signature, args)
        room = builder.extract_value(row.array(4).shape, 1)
        first = builder.mul(args[6], room)
        index, value = (builder.gep(row.array(position).data, [first]) for position in (4, 5))
        limit = row.splat(args[3])
        count = cgutils.alloca_once_value(builder, integer(0))
        left = cgutils.alloca_once(builder, I64)

        def hits(offset: Any) -> Any:
            below = builder.fcmp_ordered("<=", row.value(offset), limit)
            return builder.zext(builder.bitcast(below, I16), I64)

        def emit(offset: Any, mask: Any) -> None:
            """Write the columns ``offset + b`` for the bits b set in the mask."""
            builder.store(mask, left)
            head, body, end = (
                builder.append_basic_block(f"hits.{x}") for x in ("head", "body", "end")
            )
            builder.branch(head)
            builder.position_at_end(head)
            bits = builder.load(left)
            builder.cbranch(builder.icmp_unsigned("!=", bits, integer(0)), body, end)
            builder.position_at_end(body)
            column = builder.add(offset, builder.cttz(bits, ir.Constant(I1, 1)))
            at = builder.load(count)
            with builder.if_then(builder.icmp_signed("<", at, room)):
                builder.store(builder.trunc(column, I32), builder.gep(index, [at]))
                builder.store(
                    builder.load(builder.gep(row.cost, [column])), builder.gep(value, [at])
                )
            builder.store(builder.add(at, integer(1)), count)
            builder.store(builder.and_(bits, builder.sub(bits, integer(1))), left)
            builder.branch(head)
            builder.position_at_end(end)

        step = (
            WIDTH * UNROLL
        )  # 64 columns give one word of bits, and one branch that is hard to predict
        blocks = builder.and_(row.m, integer(-step))
        with cgutils.for_range_slice(builder, integer(0), blocks, integer(step), I64) as (
            offset,
            _,
        ):
            word = hits(offset)
            for at in range(WIDTH, step, WIDTH):
                word = builder.or_(
                    word, builder.shl(hits(builder.add(offset, integer(at))), integer(at))
                )
            emit(offset, word)
        with cgutils.for_range_slice(builder, blocks, row.whole, integer(WIDTH), I64) as (
            offset,
            _,
        ):
            emit(offset, hits(offset))
        with builder.if_then(builder.icmp_signed("<", row.whole, row.m)):
            offset = builder.sub(row.m, integer(WIDTH))
            emit(offset, builder.and_(hits(offset), builder.zext(row.unseen_lanes(offset), I64)))
        return builder.load(count)

    return signature, generate


@intrinsic
def row_top2(typing, cost, i, price):
    """(smallest ``c_ij + p_j``, second smallest, column of the smallest); of equal ones the
    smallest column."""
    result = types.Tuple((price.dtype, price.dtype, types.intp))
    signature = result(cost, types.intp, price)

    def generate(context, builder, signature, args):
        row = Row(context, builder, signature, args)
        best = Top2(row)
        row.for_each_vector(
            lambda offset, mask: best.update(
                row.masked(row.value(offset), mask), iota(builder, row, offset)
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
        row = Row(context, builder, signature, args)
        columns = row.row_pointer(3)
        best = Top2(row)
        with cgutils.for_range_slice(builder, integer(0), args[4], integer(WIDTH), I64) as (
            offset,
            _,
        ):
            column = row.load(columns, offset, I32)
            price = ir.Constant(row.vector, ir.Undefined)
            for lane in range(WIDTH):
                at = ir.Constant(I32, lane)
                j = builder.zext(builder.extract_element(column, at), I64)
                price = builder.insert_element(price, builder.load(builder.gep(row.price, [j])), at)
            best.update(builder.fadd(row.wide_cost(offset), price), column)
        return context.make_tuple(builder, signature.return_type, best.result())

    return signature, generate


@intrinsic
def row_min(typing, cost, i, price):
    """Smallest ``c_ij + p_j``, in the type of the prices."""
    signature = price.dtype(cost, types.intp, price)

    def generate(context, builder, signature, args):
        row = Row(context, builder, signature, args)
        least = cgutils.alloca_once_value(builder, row.infinity())
        row.for_each_vector(
            lambda offset, mask: builder.store(
                row.minimum(row.value(offset), builder.load(least)), least
            )
        )
        return row.fold(builder.load(least), row.minimum)

    return signature, generate
