// What a warp does as one, and memory. The order of ``SPECIAL`` is that of encode.SPECIAL.
enum { BIT_WIDE = 1, SHARED = 2, SIGN = 4 };          // flags of memory instructions, in Op.c

static inline u64 address(Warp *W, const Op *o, u32 r, s64 offset, int wide, int l) {
    u64 base = r ? lane(W, r, wide ? 8 : 4, l) : 0;
    return wide ? base + offset : (u32)(base + offset);
}

// Of all lanes, for a load or a store.
static inline void addresses(Warp *W, const Op *o, u64 *at) {
    u32 r = o->source[0];
    if (r && o->c & BIT_WIDE) for (int l = 0; l < 32; l++) at[l] = ((const u64 *)READ(r))[l] + o->a;
    else for (int l = 0; l < 32; l++) at[l] = (r ? ((const u32 *)READ(r))[l] : 0) + o->a;
}

// Whether there is a shadow of nothing that these lanes read, and each reads what there is.
static inline int unshadowed(Ctx *c, const u64 *at, u32 g, u32 bytes) {
    int i = find(c, at[__builtin_ctz(g)], bytes);
    if (i < 1 || c->allocations[i].cells) return 0;
    Allocation *x = c->allocations + i;
    u64 wrong = 0;
    FOR_LANES(g) wrong |= (at[l] - x->base > x->size - bytes) | (at[l] & (bytes - 1));
    return !wrong;
}

static void parameter(Ctx *c, Warp *W, const Op *o, u32 g) {
    u64 v = get((u64)c->parameters + 8 * o->a, o->b);
    if (o->c & SIGN) v = o->b == 4 ? (u64)(s32)v : o->b == 2 ? (u64)(s16)v : o->b == 1 ? (u64)(s8)v : v;
    FOR_LANES(g) set_lane(W, o->target[0], o->d, l, v);
    set_undefined(W, o->target[0], 0, g);
}

static void load_op(Ctx *c, Warp *W, const Op *o, u32 g) {
    int shared = o->c & SHARED, size = o->b;
    const u32 *list = c->lists + o->list;
    undefined(c, W, UNDEFINED(o->source[0]) & g, o->line);
    u64 at[32];
    addresses(W, o, at);
    if (!shared) count_access(c, at, g, size * o->n, 1);
    int plain = !shared && unshadowed(c, at, g, size * o->n);
    if (!plain && o->n > 1) FOR_LANES(g) aligned(c, at[l], size * o->n, W->index * 32 + l, o->line);
    for (u32 k = 0; k < o->n; k++) {
        if (!list[k]) continue;
        u32 lost = 0;
        FOR_LANES(g) {
            u64 v;
            if (plain) v = get(at[l] + k * size, size);
            else {
                v = load(c, at[l] + k * size, size, W->index * 32 + l, o->line, shared);
                lost |= (u32)c->read_undefined << l;
            }
            if (o->c & SIGN) v = size == 1 ? (u64)(s8)v : size == 2 ? (u64)(s16)v : size == 4 ? (u64)(s32)v : v;
            set_lane(W, list[k], o->d, l, v);
        }
        set_undefined(W, list[k], lost, g);
    }
}

static void store_op(Ctx *c, Warp *W, const Op *o, u32 g) {
    int shared = o->c & SHARED, size = o->b;
    const u32 *list = c->lists + o->list;
    undefined(c, W, UNDEFINED(o->source[0]) & g, o->line);
    u64 at[32];
    addresses(W, o, at);
    if (!shared) count_access(c, at, g, size * o->n, 0);
    if (o->n > 1) FOR_LANES(g) aligned(c, at[l], size * o->n, W->index * 32 + l, o->line);
    for (u32 k = 0; k < o->n; k++) {
        u32 lost = UNDEFINED(list[k]);
        if (!shared) undefined(c, W, lost & g, o->line);
        FOR_LANES(g) store(c, at[l] + k * size, lane(W, list[k], o->d, l), size, W->index * 32 + l, o->line, shared, shared && lost >> l & 1);
    }
}

static void atomic_op(Ctx *c, Warp *W, const Op *o, u32 g) {
    u32 lost = UNDEFINED(o->source[0]) | UNDEFINED(o->source[1]) | UNDEFINED(o->source[2]);
    undefined(c, W, lost & g, o->line);
    FOR_LANES(g) {
        u64 at = address(W, o, o->source[0], o->a, o->c & BIT_WIDE, l), v = lane(W, o->source[1], o->b, l);
        u64 v2 = o->source[2] ? lane(W, o->source[2], o->b, l) : 0;
        u64 old = atomic(c, at, v, v2, o->b, o->d, W->index * 32 + l, o->line, o->c & SHARED);
        if (o->target[0]) set_lane(W, o->target[0], o->b, l, old);
    }
    if (o->target[0]) set_undefined(W, o->target[0], 0, g);
}

// mov.b32 {%rs1, %rs2}, %r1 and the other way round; a: bytes of the whole, b: of a part.
static void unpack_op(Ctx *c, Warp *W, const Op *o, u32 g) {
    const u32 *list = c->lists + o->list;
    Lost whole = LOST(o->source[0]);
    FOR_LANES(g) {
        u64 v = lane(W, o->source[0], o->a, l);
        for (u32 k = 0; k < o->n; k++) if (list[k]) set_lane(W, list[k], o->b, l, v >> 8 * o->b * k);
    }
    int each = o->b / 2;
    for (u32 k = 0; k < o->n; k++) {
        if (!list[k]) continue;
        for (int j = 0; j < each; j++) set_part(W, list[k], j, whole.part[k * each + j], g);
        sum_parts(W, list[k], each);
    }
}

static void pack_op(Ctx *c, Warp *W, const Op *o, u32 g) {
    const u32 *list = c->lists + o->list;
    Lost whole = {0};
    int each = o->b / 2;
    for (u32 k = 0; k < o->n; k++) for (int j = 0; j < each; j++) whole.part[k * each + j] = LOST(list[k]).part[j];
    FOR_LANES(g) {
        u64 v = 0;
        for (u32 k = 0; k < o->n; k++) v |= lane(W, list[k], o->b, l) << 8 * o->b * k;
        set_lane(W, o->target[0], o->a, l, v);
    }
    for (int j = 0; j < o->a / 2; j++) set_part(W, o->target[0], j, whole.part[j], g);
    sum_parts(W, o->target[0], o->a / 2);
}

// a: bfly, up, down, idx; sources: value, lane, clamp, members.
static void shuffle_op(Ctx *c, Warp *W, const Op *o, u32 g) {
    u32 old[32], lost = UNDEFINED(o->source[0]), now = 0;
    memcpy(old, READ(o->source[0]), sizeof old);
    undefined(c, W, (UNDEFINED(o->source[1]) | UNDEFINED(o->source[2]) | UNDEFINED(o->source[3])) & g, o->line);
    together(c, W, lane(W, o->source[3], 4, __builtin_ctz(g)), g, o->line);
    FOR_LANES(g) {
        int b = lane(W, o->source[1], 4, l) & 31, clamp = lane(W, o->source[2], 4, l);
        int segment = clamp >> 8 & 31, top = (l & segment) | (clamp & 31 & ~segment);
        int j = o->a == 0 ? l ^ b : o->a == 1 ? l - b : o->a == 2 ? l + b : (l & segment) | (b & ~segment);
        int ok = (o->a == 1 ? j >= top : j <= top) && j >= 0 && j < 32;
        if (ok && !(g >> j & 1)) report(c, DIVERGENT_SYNC, o->line, 0, W->index * 32 + l, 0, 0, -1, 0);
        set_lane(W, o->target[0], 4, l, old[ok ? j : l]);
        now |= (lost >> (ok ? j : l) & 1) << l;
        if (o->target[1]) set_lane(W, o->target[1], 1, l, ok);
    }
    set_undefined(W, o->target[0], now, g);
    if (o->target[1]) set_undefined(W, o->target[1], 0, g);
}

// a: min, max, add, and, or, xor; b: signed. One undefined lane makes the result of all undefined.
static void reduce_op(Ctx *c, Warp *W, const Op *o, u32 g) {
    together(c, W, lane(W, o->source[1], 4, __builtin_ctz(g)), g, o->line);
    u32 r = 0, lost = UNDEFINED(o->source[0]) & g; int first = 1;
    FOR_LANES(g) {
        u32 x = lane(W, o->source[0], 4, l);
        int less = o->b ? (s32)x < (s32)r : x < r;
        if (first) r = x;
        else switch (o->a) {
            case 0: r = less ? x : r; break;
            case 1: r = less ? r : x; break;
            case 2: r += x; break;
            case 3: r &= x; break;
            case 4: r |= x; break;
            default: r ^= x;
        }
        first = 0;
    }
    FOR_LANES(g) set_lane(W, o->target[0], 4, l, r);
    set_undefined(W, o->target[0], lost ? ~0u : 0, g);
}

// a: any, all, ballot.
static void vote_op(Ctx *c, Warp *W, const Op *o, u32 g) {
    together(c, W, lane(W, o->source[1], 4, __builtin_ctz(g)), g, o->line);
    u32 bits = lanes_of(READ(o->source[0])) & g, lost = UNDEFINED(o->source[0]) & g;
    u32 r = o->a == 0 ? bits != 0 : o->a == 1 ? bits == g : bits;
    FOR_LANES(g) set_lane(W, o->target[0], o->a == 2 ? 4 : 1, l, r);
    set_undefined(W, o->target[0], lost ? ~0u : 0, g);
}

static void warp_barrier(Ctx *c, Warp *W, const Op *o, u32 g) {
    together(c, W, lane(W, o->source[0], 4, __builtin_ctz(g)), g, o->line);
    c->sync = (W->index << 24) + ++W->syncs;
}

static void nothing(Ctx *c, Warp *W, const Op *o, u32 g) {}   // fences: memory here is always in order

static void proxy_fence(Ctx *c, Warp *W, const Op *o, u32 g) { W->proxy_epoch = c->epoch; }

// a: offset, b: store, d: transposed; rows' addresses are in 32 or 64 bits.
static void matrix_op(Ctx *c, Warp *W, const Op *o, u32 g) {
    const u32 *list = c->lists + o->list;
    together(c, W, ~0u, g, o->line);
    undefined(c, W, UNDEFINED(o->source[0]) & ~0u >> (32 - 8 * o->n), o->line);   // 8 addresses a matrix
    u64 rows[32];
    for (u32 l = 0; l < 8 * o->n; l++) {
        rows[l] = address(W, o, o->source[0], o->a, o->c & BIT_WIDE, l);
        aligned(c, rows[l], 16, W->index * 32 + l, o->line);
    }
    for (u32 k = 0; k < o->n; k++) {
        if (o->b) store_matrix(c, READ(list[k]), rows + 8 * k, o->d, W->index, o->line, UNDEFINED(list[k]));
        else set_undefined(W, list[k], load_matrix(c, WRITE(list[k]), rows + 8 * k, o->d, W->index, o->line), ~0u);
    }
}

// a: kind; the list has d, x, y and z one after another: 4, 4, 2 and 4 registers.
static void multiply_op(Ctx *c, Warp *W, const Op *o, u32 g) {
    const u32 *list = c->lists + o->list;
    u32 *r[14];
    together(c, W, ~0u, g, o->line);
    for (int k = 0; k < 14; k++) {
        r[k] = WRITE(list[k]);
        if (k >= 4) undefined(c, W, UNDEFINED(list[k]), o->line);
    }
    mma(r, r + 4, r + 8, r + 10, o->a);
    for (int k = 0; k < 4; k++) set_undefined(W, list[k], 0, ~0u);
}

static void group_fence(Ctx *c, Warp *W, const Op *o, u32 g) { together(c, W, ~0u, g, o->line); W->fences++; }
static void group_commit(Ctx *c, Warp *W, const Op *o, u32 g) { together(c, W, ~0u, g, o->line); W->product_groups++; }
static void group_wait(Ctx *c, Warp *W, const Op *o, u32 g) { together(c, W, ~0u, g, o->line); finish_products(c, W, o->a); }

// The list: the accumulators, then the four of a, if it is in registers. Sources: a, b, scale.
static void group_multiply(Ctx *c, Warp *W, const Op *o, u32 g) {
    const u32 *list = c->lists + o->list;
    together(c, W, ~0u, g, o->line);
    for (int k = 0; k < 3; k++) undefined(c, W, UNDEFINED(o->source[k]), o->line);
    Product p = {.target = list, .at_b = lane(W, o->source[1], 8, 0), .columns = o->b, .in_registers = !o->source[0],
                 .scale = lane(W, o->source[2], 1, 0), .kind = o->a, .trans_a = o->c, .trans_b = o->d, .line = o->line};
    if (o->source[0]) p.at_a = lane(W, o->source[0], 8, 0);
    else for (int k = 0; k < 4; k++) {
        p.a[k] = WRITE(list[o->b / 2 + k]);
        undefined(c, W, UNDEFINED(list[o->b / 2 + k]), o->line);
    }
    begin_product(c, W, p);
}

// a, d: offsets of the target and of the source; b: bytes; sources: to, from, bytes that are read.
static void copy_op(Ctx *c, Warp *W, const Op *o, u32 g) {
    for (int k = 0; k < 3; k++) undefined(c, W, UNDEFINED(o->source[k]) & g, o->line);
    u64 at[32];
    FOR_LANES(g) at[l] = address(W, o, o->source[1], o->d, 1, l);
    count_access(c, at, g, o->b, 1);
    FOR_LANES(g) {
        u32 read = o->source[2] ? lane(W, o->source[2], 4, l) : o->b;
        u64 to = address(W, o, o->source[0], o->a, o->c & BIT_WIDE, l);
        aligned(c, to | at[l], o->b, W->index * 32 + l, o->line);
        copy_later(c, W, to, at[l], o->b, read, W->index * 32 + l, o->line);
    }
}

static void copy_commit(Ctx *c, Warp *W, const Op *o, u32 g) { FOR_LANES(g) W->copy_groups[l]++; }
static void copy_wait(Ctx *c, Warp *W, const Op *o, u32 g) {
    if (o->b) copy_commit(c, W, o, g);  // wait_all: those that are in no group yet, too
    finish_copies(c, W, o->a, g);
}

static const Handler SPECIAL[] = {
    parameter, load_op, store_op, atomic_op, unpack_op, pack_op, shuffle_op, reduce_op, vote_op, warp_barrier,
    nothing, proxy_fence, matrix_op, multiply_op, group_fence, group_commit, group_wait, group_multiply,
    copy_op, copy_commit, copy_wait,
};
