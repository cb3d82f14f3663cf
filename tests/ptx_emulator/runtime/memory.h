// Memory of one launch, with a shadow of every granule: who wrote and who read it last, and whether
// anybody ever wrote it. Reports do not depend on the order in which warps happen to run.
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef uint8_t u8; typedef uint16_t u16; typedef uint32_t u32; typedef uint64_t u64;
typedef int8_t s8; typedef int16_t s16; typedef int32_t s32; typedef int64_t s64;
typedef float f32; typedef double f64;

// In the order of findings.KINDS.
enum { RACE_PROGRAMS = 1, RACE_WARPS, RACE_LANES, SAME_VALUE, OUT_OF_BOUNDS, OUT_OF_VIEW, UNINITIALISED,
       UNDEFINED_REGISTER, MISALIGNED, READ_ONLY_WRITE, DIVERGENT_BRANCH, DIVERGENT_SYNC, DIVERGENT_BARRIER,
       MIXED_BARRIER, EXITED_BARRIER, IN_FLIGHT, MISSING_FENCE, DEADLOCK };
enum { ATOMIC_MAX_S, ATOMIC_MIN_S, ATOMIC_MAX_U, ATOMIC_MIN_U, ATOMIC_ADD, ATOMIC_OR, ATOMIC_AND, ATOMIC_XOR,
       ATOMIC_EXCH, ATOMIC_CAS, ATOMIC_ADD_F32, ATOMIC_ADD_F64 };
enum { NEVER, WRITTEN, WRITTEN_UNDEFINED };            // Cell.init
enum { INITIALISED = 1, READ_ONLY = 2, PARTIAL = 4 };  // Allocation.flags

typedef struct {                 // shadow of one granule; memory.py knows its layout
    u32 w_epoch, w_sync;         // barrier interval, and warp-level interval, of the last write
    u32 r_first, r_epoch, r_sync, r_warps;
    u32 reach;                   // the last launch that was given a view with this element
    u16 w_thread, w_line, r_thread, r_line;
    u8 w_atomic, r_many, init, pad;
} Cell;

typedef struct {
    u64 base, size;
    Cell *cells;                 // NULL: read only, and all of it is initialised and in view
    u32 shift, flags;            // bytes of a granule: 1 << shift
} Allocation;

typedef struct {
    u32 kind, line, other, program, thread, other_thread;
    u64 address, count;
    s32 allocation; u32 offset;
} Report;

typedef struct {
    Allocation *allocations; s32 n_allocations, n_reports;
    Report *reports; s32 most_reports, check;   // check: 0 looks at bounds only
    u32 epoch, launch, launch_first, program_first, sync;
    u32 asked_epoch, asked_only;                // epoch of global memory; 1: only barriers that the source asks for begin one
    u32 cta[3], grid[3], program, last;
    u32 seed; s32 order;                        // 0 ascending, 1 descending, 2 random, 3 preemptive
    u64 instructions, barriers, limit;          // of warps; limit: more is a deadlock
    u64 bytes_read, bytes_written, sectors;     // of global memory; a sector has 32 bytes
    u64 *profile;                               // how often each block was entered
    const u32 *lists; const u8 *parameters;
    s32 read_undefined, stop;                   // stop: end the launch at its first error
    s32 stopped, pad;
} Ctx;

static inline u32 draw(Ctx *c) { u32 x = c->seed; x ^= x << 13; x ^= x >> 17; x ^= x << 5; return c->seed = x; }

static __attribute__((noinline)) void report(Ctx *c, u32 kind, u32 line, u32 other, u32 thread, u32 other_thread,
                                             u64 address, int allocation, u64 offset) {
    if (kind != RACE_LANES && kind != SAME_VALUE && kind != DIVERGENT_BRANCH && kind != IN_FLIGHT) c->stopped = c->stop;
    for (int i = 0; i < c->n_reports; i++) {
        Report *r = c->reports + i;
        if (r->kind == kind && r->line == line && r->other == other && r->allocation == allocation) { r->count++; return; }
    }
    if (c->n_reports == c->most_reports) return;
    c->reports[c->n_reports++] = (Report){kind, line, other, c->program, thread, other_thread, address, 1, allocation, (u32)offset};
}

// Two accesses to a granule, one of them a write, with no barrier between them.
static inline void conflict(Ctx *c, const Cell *k, u32 now, u32 thread, u32 line, u64 a, int al, u64 off) {
    if (k->w_epoch < c->program_first) report(c, RACE_PROGRAMS, line, k->w_line, thread, k->w_thread, a, al, off);
    else if (k->w_epoch == now && k->w_thread != thread) {
        if (k->w_thread >> 5 != thread >> 5) report(c, RACE_WARPS, line, k->w_line, thread, k->w_thread, a, al, off);
        else if (k->w_sync == c->sync) report(c, RACE_LANES, line, k->w_line, thread, k->w_thread, a, al, off);
    }
}

static inline void on_read(Ctx *c, Cell *k, u32 now, u32 thread, u32 line, u64 a, int al, u64 off) {
    if (k->w_epoch >= c->launch_first) conflict(c, k, now, thread, line, a, al, off);
    if (k->r_epoch < c->launch_first) k->r_first = now;
    if (k->r_epoch != now) { k->r_epoch = now; k->r_warps = 0; k->r_many = 0; k->r_thread = thread; k->r_sync = c->sync; }
    else if (k->r_sync != c->sync) { k->r_many = 0; k->r_thread = thread; k->r_sync = c->sync; }
    k->r_warps |= 1u << (thread >> 5);
    if (k->r_thread != thread) k->r_many = 1;
    k->r_line = line;
}

static inline void on_write(Ctx *c, Cell *k, u32 now, u32 thread, u32 line, u64 a, int al, u64 off, int same, int atomic, int init) {
    if (k->w_epoch >= c->launch_first && !(atomic && k->w_atomic)) {
        if (same && !k->w_atomic && k->w_epoch == now && k->w_thread != thread) report(c, SAME_VALUE, line, k->w_line, thread, k->w_thread, a, al, off);
        else conflict(c, k, now, thread, line, a, al, off);
    }
    if (k->r_epoch >= c->launch_first) {
        if (k->r_first < c->program_first) report(c, RACE_PROGRAMS, line, k->r_line, thread, k->r_thread, a, al, off);
        if (k->r_epoch == now) {
            if (k->r_warps & ~(1u << (thread >> 5))) report(c, RACE_WARPS, line, k->r_line, thread, k->r_thread, a, al, off);
            else if (k->r_sync == c->sync && (k->r_many || k->r_thread != thread)) report(c, RACE_LANES, line, k->r_line, thread, k->r_thread, a, al, off);
        }
    }
    k->w_epoch = now; k->w_sync = c->sync; k->w_thread = thread; k->w_line = line; k->w_atomic = atomic; k->init = init;
}

static inline int find(Ctx *c, u64 a, u64 size) {
    Allocation *x = c->allocations + c->last;
    if (a - x->base < x->size && a + size - x->base <= x->size) return c->last;
    for (int i = 1; i < c->n_allocations; i++) {
        x = c->allocations + i;
        if (a - x->base < x->size && a + size - x->base <= x->size) { c->last = i; return i; }
    }
    return -1;
}

// The allocation of an access, -1 if there is none; ``a`` becomes an address of this process.
static inline int locate(Ctx *c, u64 *a, u32 size, u32 thread, u32 line, int shared) {
    if (*a & (size - 1)) { report(c, MISALIGNED, line, 0, thread, 0, *a, -1, 0); return -1; }
    if (shared) {
        Allocation *s = c->allocations;
        u64 off = (u32)*a;
        if (off + size > s->size) { report(c, OUT_OF_BOUNDS, line, 0, thread, 0, *a, 0, off); return -1; }
        *a = s->base + off;
        return 0;
    }
    int i = find(c, *a, size);
    if (i < 1) {
        int near = -1; s64 off = 0;             // the allocation that it runs past
        for (int k = 1; k < c->n_allocations; k++) {
            s64 d = (s64)(*a - c->allocations[k].base);
            if (d >= -65536 && d < (s64)c->allocations[k].size + 65536) { near = k; off = d; }
        }
        report(c, OUT_OF_BOUNDS, line, 0, thread, 0, *a, near, off);
        return -1;
    }
    return i;
}

// Of a vector, all of it has to be aligned, not only its elements.
static inline void aligned(Ctx *c, u64 a, u32 size, u32 thread, u32 line) {
    if (a & (size - 1)) report(c, MISALIGNED, line, 0, thread, 0, a, -1, 0);
}

static inline u64 get(u64 a, u32 size) {
    switch (size) {
        case 1: return *(u8 *)a;
        case 2: return *(u16 *)a;
        case 4: return *(u32 *)a;
        default: return *(u64 *)a;
    }
}

static __attribute__((noinline)) u64 load(Ctx *c, u64 a, u32 size, u32 thread, u32 line, int shared) {
    c->read_undefined = 0;
    int i = locate(c, &a, size, thread, line, shared);
    if (i < 0) { c->read_undefined = 1; return 0xBADBADBADBADBADBull; }
    Allocation *x = c->allocations + i;
    if (c->check && x->cells) {
        u64 off = a - x->base, from = off >> x->shift, to = (off + size - 1) >> x->shift;
        for (u64 g = from; g <= to; g++) {
            Cell *k = x->cells + g;
            if (k->init == WRITTEN_UNDEFINED) c->read_undefined = 1;
            else if (k->init == NEVER && !(x->flags & INITIALISED)) report(c, UNINITIALISED, line, 0, thread, 0, a, i, off);
            if (x->flags & PARTIAL && k->reach != c->launch) report(c, OUT_OF_VIEW, line, 0, thread, 0, a, i, off);
            if (!(x->flags & READ_ONLY)) on_read(c, k, i ? c->asked_epoch : c->epoch, thread, line, a, i, off);
        }
    }
    return get(a, size);
}

static __attribute__((noinline)) void store(Ctx *c, u64 a, u64 v, u32 size, u32 thread, u32 line, int shared, int undefined_value) {
    int i = locate(c, &a, size, thread, line, shared);
    if (i < 0) return;
    Allocation *x = c->allocations + i;
    if (x->flags & READ_ONLY) { report(c, READ_ONLY_WRITE, line, 0, thread, 0, a, i, a - x->base); return; }
    if (c->check) {
        u64 off = a - x->base, from = off >> x->shift, to = (off + size - 1) >> x->shift;
        int same = !((get(a, size) ^ v) << (64 - 8 * size)), init = undefined_value ? WRITTEN_UNDEFINED : WRITTEN;
        for (u64 g = from; g <= to; g++) {
            Cell *k = x->cells + g;
            if (x->flags & PARTIAL && k->reach != c->launch) report(c, OUT_OF_VIEW, line, 0, thread, 0, a, i, off);
            on_write(c, k, i ? c->asked_epoch : c->epoch, thread, line, a, i, off, same && k->init != NEVER, 0, init);
        }
    }
    memcpy((void *)a, &v, size);
}

static __attribute__((noinline)) u64 atomic(Ctx *c, u64 a, u64 v, u64 v2, u32 size, int op, u32 thread, u32 line, int shared) {
    int i = locate(c, &a, size, thread, line, shared);
    if (i < 0) return 0;
    Allocation *x = c->allocations + i;
    if (x->flags & READ_ONLY) { report(c, READ_ONLY_WRITE, line, 0, thread, 0, a, i, a - x->base); return 0; }
    u64 old = get(a, size), now;
    if (c->check) {
        u64 off = a - x->base, from = off >> x->shift, to = (off + size - 1) >> x->shift;
        for (u64 g = from; g <= to; g++) {
            Cell *k = x->cells + g;
            if (k->init == NEVER && !(x->flags & INITIALISED)) report(c, UNINITIALISED, line, 0, thread, 0, a, i, off);
            if (x->flags & PARTIAL && k->reach != c->launch) report(c, OUT_OF_VIEW, line, 0, thread, 0, a, i, off);
            on_write(c, k, i ? c->asked_epoch : c->epoch, thread, line, a, i, off, 0, 1, WRITTEN);
        }
    }
    s64 so = size == 4 ? (s32)old : (s64)old, sv = size == 4 ? (s32)v : (s64)v;
    if (size == 4) v = (u32)v;
    switch (op) {
        case ATOMIC_MAX_S: now = so > sv ? old : v; break;
        case ATOMIC_MIN_S: now = so < sv ? old : v; break;
        case ATOMIC_MAX_U: now = old > v ? old : v; break;
        case ATOMIC_MIN_U: now = old < v ? old : v; break;
        case ATOMIC_ADD: now = old + v; break;
        case ATOMIC_OR: now = old | v; break;
        case ATOMIC_AND: now = old & v; break;
        case ATOMIC_XOR: now = old ^ v; break;
        case ATOMIC_EXCH: now = v; break;
        case ATOMIC_CAS: now = old == v ? v2 : old; break;
        case ATOMIC_ADD_F32: { f32 f, g; memcpy(&f, &old, 4); memcpy(&g, &v, 4); f += g; now = 0; memcpy(&now, &f, 4); break; }
        default: { f64 f, g; memcpy(&f, &old, 8); memcpy(&g, &v, 8); f += g; memcpy(&now, &f, 8); }
    }
    memcpy((void *)a, &now, size);
    return old;
}

// Bytes, and sectors as far as neighbouring lanes share them.
static inline void count_access(Ctx *c, const u64 *at, u32 lanes, u32 size, int is_load) {
    u64 last = ~0ull, sectors = 0;
    for (int l = 0; l < 32; l++)
        if (lanes >> l & 1)
            for (u64 s = at[l] >> 5; s <= (at[l] + size - 1) >> 5; s++) { sectors += s != last; last = s; }
    c->sectors += sectors;
    *(is_load ? &c->bytes_read : &c->bytes_written) += (u64)size * __builtin_popcount(lanes);
}
