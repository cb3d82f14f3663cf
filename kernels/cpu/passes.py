"""Passes over whole matrices: surveys of raw costs, exact minima, and relaxation of all columns at
once; see ``vector`` for the loops."""

from __future__ import annotations

import functools
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from .vector import I1, I16, I32, I64, UNROLL, WIDTH, Row, Top2, integer, iota


@intrinsic
def row_survey(typing, cost, i, zeros):
    """(largest finite magnitude, smallest, second smallest, column of the smallest) of the costs of
    a row, in their own type, which is that of ``zeros`` (width,); the magnitude is NaN if any cost
    is NaN or minus infinity."""
    result = types.Tuple((zeros.dtype, zeros.dtype, zeros.dtype, types.intp))
    signature = result(cost, types.intp, zeros)

    def generate(context, builder, signature, args):
        row = Row(context, builder, signature, args)
        best = Top2(row)
        zero = row.splat(ir.Constant(row.type, 0.0))
        largest = cgutils.alloca_once_value(builder, zero)
        valid = cgutils.alloca_once_value(builder, ir.Constant(I16, -1))

        def enlarge(value: Any) -> None:
            finite = builder.fcmp_ordered("<", value, row.infinity())
            size = builder.select(finite, value, zero)
            builder.store(row.maximum(size, builder.load(largest)), largest)

        def consider(offset: Any, mask: Any = None) -> Any:
            value = row.masked(row.wide_cost(offset), mask)
            best.update(value, iota(builder, row, offset))
            number = builder.bitcast(builder.fcmp_ordered("ord", value, value), I16)
            builder.store(builder.and_(builder.load(valid), number), valid)
            return value

        def look(offset: Any, second: Any) -> Any:
            value = row.wide_cost(offset)
            enlarge(value)
            return builder.fcmp_unordered("<", value, second)  # or NaN

        best.for_each_vector(look, consider, lambda *at: enlarge(consider(*at)))
        first, second, column = best.result()
        size = row.fold(builder.load(largest), row.maximum)  # of those above zero
        negative = builder.fneg(first)
        size = builder.select(builder.fcmp_ordered("<", size, negative), negative, size)
        numbers = builder.icmp_signed("==", builder.load(valid), ir.Constant(I16, -1))
        lowest = ir.Constant(row.type, float("-inf"))
        nan = ir.Constant(row.type, float("nan"))
        size = builder.select(
            builder.and_(numbers, builder.fcmp_ordered(">", first, lowest)), size, nan
        )
        return context.make_tuple(builder, signature.return_type, (size, first, second, column))

    return signature, generate


@intrinsic
def column_min(typing, cost, offset, least, row):
    """Write the minima of the 16 columns from ``offset`` on to ``least`` and the first rows that
    have them to ``row`` (int32); return (largest finite magnitude there, whether every entry is a
    number above -inf)."""
    result = types.Tuple((types.float64, types.boolean))
    signature = result(cost, types.intp, least, row)

    def generate(context, builder, signature, args):
        block = Row(context, builder, signature, args)
        scalar, start = block.cost_type, block.array(0).data
        rows = builder.extract_value(block.array(0).shape, 0)

        def constant(value: float) -> Any:
            return block.splat(ir.Constant(scalar, value), scalar)

        least = cgutils.alloca_once_value(builder, constant(float("inf")))
        first = cgutils.alloca_once_value(builder, block.splat(ir.Constant(I32, 0), I32))
        size = cgutils.alloca_once_value(builder, constant(0.0))
        valid = cgutils.alloca_once_value(builder, ir.Constant(ir.VectorType(I1, WIDTH), [1] * 16))
        with cgutils.for_range(builder, rows) as loop:
            at = builder.add(builder.mul(loop.index, block.m), args[1])
            value = block.load(start, at, scalar)
            smaller = builder.fcmp_ordered("<", value, builder.load(least))
            number = block.splat(builder.trunc(loop.index, I32), I32)
            builder.store(builder.select(smaller, number, builder.load(first)), first)
            builder.store(builder.select(smaller, value, builder.load(least)), least)
            is_number = builder.fcmp_ordered("ord", value, value)
            builder.store(builder.and_(builder.load(valid), is_number), valid)
            finite = builder.fcmp_ordered("<", value, constant(float("inf")))
            positive = builder.select(finite, value, constant(0.0))
            builder.store(block.maximum(positive, builder.load(size)), size)
        minima = builder.load(least)
        above = builder.fcmp_ordered(">", minima, constant(float("-inf")))
        valid = builder.and_(builder.load(valid), above)
        finite = builder.fcmp_ordered("<", minima, constant(float("inf")))
        negative = builder.select(finite, builder.fneg(minima), constant(0.0))
        largest = block.fold(block.maximum(negative, builder.load(size)), block.maximum)
        if block.cost_type != block.type:
            minima = builder.fpext(minima, block.vector)
        block.store(minima, block.array(2).data, args[1])
        block.store(builder.load(first), block.array(3).data, args[1])
        largest = largest if scalar == ir.DoubleType() else builder.fpext(largest, ir.DoubleType())
        bits = builder.bitcast(valid, I16)
        every = builder.icmp_unsigned("==", bits, ir.Constant(I16, -1))
        return context.make_tuple(builder, signature.return_type, [largest, every])

    return signature, generate


@intrinsic
def row_relax(typing, cost, i, price, shift, floor, key, pred, owner):
    """Offer every column ``c_ij + p_j + shift``, or ``floor`` if that is more: where it is less
    than the key it is the new key, and i the ``pred``. Return (least key, column that has it).

    The column is one that nobody owns, if one of those has that key. ``pred`` is int64, as wide as
    keys, so that one mask does for both; ``owner`` is int32, below 0 for nobody.
    """
    number, result = price.dtype, types.Tuple((price.dtype, types.intp))
    signature = result(cost, types.intp, price, number, number, key, pred, owner)

    def generate(context, builder, signature, args):
        row = Row(context, builder, signature, args)
        keys, preds, owners = (row.array(position).data for position in (5, 6, 7))
        new_keys, new_preds = row.hidden(keys), row.hidden(preds)
        number = row.splat(args[1], I64)
        shift, floor = row.splat(args[3]), row.splat(args[4])
        least = cgutils.alloca_once_value(builder, row.infinity())

        def offer(offset: Any, mask: Any) -> None:
            offered = row.maximum(builder.fadd(row.value(offset), shift), floor)
            key, pred = row.load(keys, offset, row.type), row.load(preds, offset, I64)
            nearer = row.less(offered, key)
            key = builder.select(nearer, offered, key)
            row.store(key, new_keys, offset)
            row.store(builder.select(nearer, number, pred), new_preds, offset)
            builder.store(row.minimum(key, builder.load(least)), least)

        row.for_each_vector(offer)  # to see some columns twice changes nothing
        best = row.fold(builder.load(least), row.minimum)
        wanted, nobody = row.splat(best), row.splat(ir.Constant(I32, 0), I32)
        column = cgutils.alloca_once_value(builder, integer(-1))
        count = cgutils.alloca_once_value(builder, integer(0))

        def find(offset: Any, lanes: Any) -> Any:
            bits = builder.bitcast(lanes, I16)
            lane = builder.zext(builder.cttz(bits, ir.Constant(I1, 0)), I64)
            some = builder.icmp_unsigned("!=", bits, ir.Constant(I16, 0))
            there = builder.select(some, builder.add(offset, lane), builder.load(column))
            builder.store(there, column)
            return bits

        def is_best(offset: Any) -> Any:
            return builder.fcmp_ordered("==", row.load(keys, offset, row.type), wanted)

        def look(offset: Any, mask: Any) -> None:
            several = builder.ctpop(builder.zext(find(offset, is_best(offset)), I64))
            builder.store(builder.add(builder.load(count), several), count)

        def prefer_unowned(offset: Any, mask: Any) -> None:
            unowned = builder.icmp_signed("<", row.load(owners, offset, I32), nobody)
            find(offset, builder.and_(is_best(offset), unowned))

        row.for_each_vector(look)
        with builder.if_then(builder.icmp_signed(">", builder.load(count), integer(1))):
            row.for_each_vector(prefer_unowned)
        chosen = builder.load(column)
        return context.make_tuple(builder, signature.return_type, [best, chosen])

    return signature, generate


@intrinsic
def row_least(typing, cost, i, price):
    """(s, e): the smallest ``c_ij + p_j`` is s + e exactly, s rounded and e its error; in float64.

    Rounding is monotone, so the least of the exact sums is among the least of the rounded ones.
    Errors (Knuth's two-sum) are looked at only where a block of columns reaches the least so far.
    """
    signature = types.Tuple((types.float64, types.float64))(cost, types.intp, price)

    def generate(context, builder, signature, args):
        row = Row(context, builder, signature, args)
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

        step = WIDTH * UNROLL
        blocks = builder.and_(row.m, integer(-step))
        with cgutils.for_range_slice(builder, integer(0), blocks, integer(step), I64) as (
            offset,
            _,
        ):
            offsets = [builder.add(offset, integer(at)) for at in range(0, step, WIDTH)]
            limit = row.splat(builder.load(least))
            reached = [builder.fcmp_ordered("<=", row.value(at), limit) for at in offsets]
            hits = builder.bitcast(functools.reduce(builder.or_, reached), I16)
            with builder.if_then(builder.icmp_unsigned("!=", hits, ir.Constant(I16, 0))):
                for at in offsets:
                    update(at)
                fold()
        with cgutils.for_range_slice(builder, blocks, row.whole, integer(WIDTH), I64) as (
            offset,
            _,
        ):
            update(offset)
        with builder.if_then(builder.icmp_signed("<", row.whole, row.m)):
            update(builder.sub(row.m, integer(WIDTH)))
        fold()
        lanes = builder.fcmp_ordered("==", builder.load(first), row.splat(builder.load(least)))
        errors = builder.select(lanes, builder.load(error), row.infinity())
        pair = builder.load(least), row.fold(errors, row.minimum)
        return context.make_tuple(builder, signature.return_type, pair)

    return signature, generate
