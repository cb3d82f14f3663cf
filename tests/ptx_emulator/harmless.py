"""Planted faults that change the compiled code and do no harm: the proof of each, to be checked
against the source. Names are those of ``faults.Fault.name``.

Of barriers, some proofs say that an entry is read and written by the same lane of one block of
offsets. That a lane is one thread, for loads and stores alike, is what Triton does where type and
shape are the same, and no rule of its language; the emulator would report a race if it did not.
"""

from __future__ import annotations

INF = 'float("inf")'
LISTED = "tl.load(p_listed + o_list, mask=m_at[:, None], other=0)"
VALUE = f"tl.load(p_value + o_list, mask=m_at[:, None], other={INF})"

# (proof, faults)
PROOFS: list[tuple[str, list[str]]] = [
    (
        "What masked lanes get decides b_held and the sum b_paid only through m_held, which has"
        " m_row; what is returned for them is the masked load of p_least.",
        ["forest.py:payment no other: tl.load(p_column + i_row, mask=m_row, other=-1)"],
    ),
    (
        "b_done is 1 in masked lanes, from its own other, so m_nearer and m_dummy are false there,"
        " and the statement after the stores makes their b_distance infinite.",
        [f"augment.py:relax no other: tl.load(p_distance + o_col, mask=m_col, other={INF})"],
    ),
    (
        "Before the first store to p_owner, or to p_column again, which other lanes read above,"
        " there is another barrier: the one in the loop.",
        ["matching.py:settle_kernel barrier: after least = tl.min(b_least, 0)"],
    ),
    (
        "p_owner + o_col is read and written by the same lane; and to p_column, which is written"
        " for other rows, comes nothing else before the kernel ends.",
        [
            "matching.py:settle_kernel barrier: after if claimed:",
            "matching.py:settle_kernel barrier: after for i_start in range(col, col_stop, BLOCK):",
        ],
    ),
    (
        "Nobody looks at p_bid before the barrier that precedes the bids.",
        ["matching.py:bids_kernel barrier: after for i_start in range(col, col_stop, BLOCK):"],
    ),
    (
        "A row bids for one column, so b_row is another in each lane: what is read at o_col and"
        " b_row is written by the same lane. p_column is not read.",
        ["matching.py:award barrier: after b_price = tl.maximum(b_price, b_least - b_paid)"],
    ),
    (
        "If there is a target, flip_path() comes next, which uses neither p_price nor p_done nor"
        " p_distance and ends with a barrier; without one, nothing was written since the barrier"
        " that follows relax(), and no search comes any more.",
        ["augment.py:shortest_path barrier: after if target >= 0:"],
    ),
    (
        "fill() writes and relax() reads p_distance and p_done in the same blocks, so that an entry"
        " belongs to the same lane; the barrier after relax() precedes what other lanes do.",
        ["augment.py:shortest_path barrier: after fill(p_done, col, col_stop, 0, BLOCK)"],
    ),
    (
        "next_free() asks of p_column only whether rows are free. The one that it begins with"
        " belongs to the thread that wrote it; the others of the path had a column before, too."
        " p_owner is read after the next search's barrier.",
        ["augment.py:flip_path barrier: after while i_row != i_start:"],
    ),
    (
        "Lanes without a bid read what belongs to row 0 of the batch; b_price, which follows from"
        " it, is stored under m_won, the mask.",
        [
            "matching.py:award no mask: tl.load(p_paid + b_row, mask=m_won, other=0.0)",
            "matching.py:award no mask: tl.load(p_least + b_row, mask=m_won, other=0.0)",
        ],
    ),
    (
        "The mask is the same in all lanes. Where it is false, ticks == 0, advance() is not called,"
        " and nothing else looks at b_dummy.",
        [
            "spread.py:forest_step_kernel no other:"
            f" tl.load(p_part_before + o_part * 2 + 1, mask=m_any, other={INF})"
        ],
    ),
    (
        "held is looked at where dummy is finite; both are set by settle() before they first are.",
        [
            "spread.py:forest_step_kernel no other:"
            " tl.load(p_count_before + own * COUNTS + 4, mask=ticks > 0, other=NOBODY)"
        ],
    ),
    (
        "p_report begins as zeros. Where a forest went before, its counts of work are added to, and"
        " not forgotten; no answer depends on them.",
        [
            "spread.py:forest_step_kernel no mask:"
            f" tl.load(p_report + {k}, mask=ticks > 0, other=0)"
            for k in (4, 5)
        ],
    ),
    (
        "The first tick looks at p_best alone, in the same lanes (start_roots), before a barrier of"
        " its own.",
        ["forest.py:start_afresh barrier: after for i_start in range(col, col_stop, BLOCK):"],
    ),
    (
        "next_free() begins at the entry that was written last, which is its lane 0, as that of"
        " the thread that writes single values; entries that were written before lie outside.",
        ["augment.py:augment_rows_kernel barrier: after tl.store(p_owner + j, i_row)"],
    ),
    (
        "p_least + o_row, or p_end + o_row, is read and written by the same lane, and by nobody"
        " else in this mode.",
        [
            "forest.py:flip barrier:"
            " after b_least = tl.load(p_least + o_row, mask=m_free, other=0.0)",
            "forest.py:flip barrier: after tl.store(p_scanned + o_row, float('inf'), mask=m_row)",
        ],
    ),
    (
        "Each lane walks up a tree of its own, and trees have neither rows nor columns in common"
        " (point 2 of what forest.py says), so that what one reads none of the others writes.",
        [
            "forest.py:flip barrier:"
            " after b_cost = precise(tl.load(p_cost + o_cost, mask=m_real, other=0.0), scale...",
            "forest.py:flip barrier: after tl.store(p_paid + i_from, b_cost, mask=m_real)",
        ],
    ),
    (
        "p_near + o_col and p_price + o_col are read and written by the same lane, and by nobody"
        " else in this mode.",
        [
            "forest.py:raise_prices barrier: after if EXACT:",
            "forest.py:raise_prices barrier:"
            " after b_price = tl.load(p_price + o_col, mask=m_col, other=0.0)",
        ],
    ),
    (
        "p_scanned + o_row is read and written by the same lane, and by nobody else in this mode;"
        " before what was listed is read, tick() has a barrier.",
        [
            "forest.py:find_short_lists barrier:"
            " after tl.store(p_reach + o_at, b_reach, mask=m_short)"
        ],
    ),
    (
        "p_out + o_col is written, read by least_of_spare() and written again in the same blocks,"
        " so that an entry belongs to the same lane.",
        [
            "sinkhorn.py:final_prices_kernel barrier: in if spare > 0:",
            "sinkhorn.py:final_prices_kernel barrier:"
            " after b_price = tl.load(p_out + o_col, mask=o_col < col_stop, other=0.0)",
        ],
    ),
    (
        "The store of p_wanted has nothing to wait for: p_wanted was read before the barrier that"
        " precedes it and is not read again; nor is p_price, which is filled next, read after it.",
        ["augment.py:forget_huge_prices_kernel barrier: in if dwarfed:"],
    ),
    (
        "The value is compared only under 'm_col &', and m_col is false in masked lanes.",
        ["forest.py:meet no other: tl.load(p_offer + b_col, mask=m_col, other=-1)"],
    ),
    (
        "m_at stays false in masked lanes ('m_at = m_at & (b_reach < cap)'), and m_col, by which"
        " all that follows is masked, has it.",
        [
            f"forest.py:by_list no other: tl.load(p_reach + o_at, mask=m_at, other={INF})",
            f"forest.py:by_list no other: {VALUE}",
        ],
    ),
    (
        "m_nearer, m_active, m_dummy and the choice of b_far all have m_col, and the stores are"
        " masked by it.",
        ["forest.py:settle no other: tl.load(p_offer + o_col, mask=m_col, other=INFINITE)"],
    ),
    (
        "In the lane that is added, o_row == stop, the load beside it is masked by a comparison of"
        " its own and gives 0, which is no free row.",
        ["forest.py:start_roots one too far: o_row < stop"],
    ),
    (
        "b_col masks one load, which also has m_row; and m_short has m_row, by which all that"
        " follows is masked.",
        [
            "forest.py:find_short_lists no other: tl.load(p_column + o_row, mask=m_row, other=-1)",
            "forest.py:find_short_lists no other:"
            f" tl.load(p_bound + o_row, mask=m_row, other={INF})",
        ],
    ),
    (
        "A masked lane is done, and stays so ('m_on & ...'), or has i_from >= n, for which the"
        " statement after the next takes i_from - n instead.",
        [
            "forest.py:find_root no other:"
            " tl.load(p_column + i_from, mask=m_on & (i_from < n), other=-1)"
        ],
    ),
    (
        "The value is compared under 'm_end &' and added by an atomic masked by m_end, which is"
        " false in masked lanes.",
        [
            f"forest.py:find_roots no other: tl.load(p_near + o_col, mask=m_end, other={INF})",
            "forest.py:choose_ends no other: tl.load(p_best + b_root, mask=m_end, other=-1)",
        ],
    ),
    (
        "'m_on = m_free & ...' is all that becomes of masked lanes.",
        ["forest.py:flip no other: tl.load(p_end + o_row, mask=m_free, other=NOBODY)"],
    ),
    (
        "'m_free = m_row & ...' is all that becomes of masked lanes.",
        ["forest.py:flip no other: tl.load(p_best + o_row, mask=m_row, other=INFINITE)"],
    ),
    (
        "b_next is taken where m_real, which is the mask, and nowhere else.",
        ["forest.py:flip no other: tl.load(p_column + i_from, mask=m_real, other=-1)"],
    ),
    (
        "b_rise is added to a price that is stored under m_col, which is the mask.",
        [f"forest.py:raise_prices no other: tl.load(p_near + o_col, mask=m_col, other={INF})"],
    ),
    (
        "Where the mask is false, b_column is -1, and the store writes -1 whether or not b_owner"
        " equals o_row.",
        [
            "matching.py:settle_kernel no other:"
            " tl.load(p_owner + b_column, mask=b_column >= 0, other=NOBODY)"
        ],
    ),
    (
        "m_spare has m_col, and m_dummy has m_spare; nothing else depends on the price.",
        [
            "matching.py:settle_kernel no other:"
            f" tl.load(p_price + o_col, mask=m_col, other={INF}) (2)"
        ],
    ),
    (
        "Masked lanes read the list of row 0 of the batch, which this kernel does not write. What"
        " they read makes first and j, and all that becomes of these is masked by m_known, which"
        " has m_at.",
        [
            f"matching.py:bid no mask: {LISTED}",
            f"matching.py:bid no mask: {VALUE}",
            f"matching.py:bid no other: {VALUE}",
            "matching.py:bid no mask: tl.load(p_bound + i_row, mask=m_at, other=0.0)",
        ],
    ),
    (
        "m_won has m_col, and all that follows is masked by it.",
        ["matching.py:award no other: tl.load(p_bid + o_col, mask=m_col, other=NO_BID)"],
    ),
    (
        "b_held is looked at where m_won, which is the mask, and nowhere else.",
        ["matching.py:award no other: tl.load(p_owner + o_col, mask=m_won, other=-1)"],
    ),
    (
        "i_problem is the number of a problem in every lane (the first of the batch in masked"
        " ones), of what this kernel does not write; and what follows from it in a masked lane is"
        " not kept, whichever number it is.",
        [
            f"sinkhorn.py:moved no {what}: tl.load(p_unit + i_problem, mask=m_col, other=1.0)"
            for what in ("mask", "other")
        ]
        + ["sinkhorn.py:usable no mask: tl.load(p_flags + i_problem, mask=m_col, other=0)"]
        + [
            f"sinkhorn.py:update_kernel no {what}:"
            f" tl.load({array} + i_problem, mask=m_row, other=1.0)"
            for array in ("p_unit", "p_scale")
            for what in ("mask", "other")
        ]
        + [
            "statistics.py:start_prices_kernel no mask:"
            f" tl.load({array} + i_problem, mask=m_col, other={other})"
            for array, other in (("p_scale", "0.0"), ("p_flags", "0"))
        ],
    ),
    (
        "The price of a masked lane is that of LEAST_MASS instead of mass one, finite both times."
        " It is stored under m_col, or added in exponents() to a cost that is infinite there, for"
        " its mask has m_col.",
        ["sinkhorn.py:moved no other: tl.load(p_mass + o_col, mask=m_col, other=1)"],
    ),
    (
        "The row that is added comes after the program's last. If another follows in the matrix,"
        " ROWS == rows, and it has no lane. Else it is row n of a square problem, of weight dummies"
        " == 0; or the row after the dummy row, which is infinite for exponents(), or without"
        " columns where GROUPED: a share of 0 in either case.",
        ["sinkhorn.py:update_kernel one too far: i_row < row_stop"],
    ),
    (
        "Masked lanes are not counted: b_count has '& (o_col < m)'.",
        [
            "sinkhorn.py:least_of_spare no other:"
            f" tl.load(p_price + o_col, mask=o_col < m, other={INF})"
        ],
    ),
]

REASONS = {name: " ".join(proof.split()) for proof, names in PROOFS for name in names}
