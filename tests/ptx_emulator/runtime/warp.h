// One warp: where its 32 lanes are, its registers, and which lanes of them nobody wrote.

typedef struct {
    u32 code, line, block;       // block: of a branch, where it goes; of ENTER, which it is
    u32 guard, negated;          // register that is the predicate; 0: none
    u32 target[2], source[4];    // registers: byte offsets in the warp's file; 0: none
    s32 a, b, c, d;              // what else the instruction says
    u32 list, n;                 // registers of a vector or a fragment: where in the table, how many
} Op;

typedef struct {
    const Op *ops;
    const u32 *lists;
    const u8 *file;              // registers at the start: constants and poison
    u64 file_bytes, defined;     // up to ``defined`` they are constants
    const u8 *parameters;
    u32 warps, thread_numbers;   // thread_numbers: the register that holds %tid.x
    u32 program_number[3];       // those that hold %ctaid
} Program;

typedef struct { u64 to; u32 data[4]; u32 size, thread, line; int group; } Copy;
typedef struct {
    const u32 *target; u32 *a[4]; u64 at_a, at_b;
    int columns, in_registers, scale, kind, trans_a, trans_b, group; u32 line, epoch;
} Product;
#define MOST_COPIES 4096
#define MOST_PRODUCTS 512

// Lanes in which a register is undefined, and in which each 16 bits of it are; how many fences for
// products there were when an instruction wrote it last; whether this program defined any of it.
typedef struct { u32 any, part[4], fences, changed; } Lost;
static const Lost NOBODY = {~0u, {~0u, ~0u, ~0u, ~0u}, ~0u, 0};

typedef struct {
    u8 *file;                    // registers
    Lost *undefined;             // of each 32 bytes of the file, by the register that begins there
    u32 *changed, n_changed;     // those that are not what they were when the program began
    u32 pc[32], alive, index, current, barrier_line, asked, diverged, syncs;
    u32 proxy_epoch, fences;     // of the last fence for matrices in shared memory; those for registers
    int fuel, status;
    int n_copies, copy_groups[32], n_products, product_groups;
    Copy copies[MOST_COPIES];
    Product products[MOST_PRODUCTS];
} Warp;

typedef void (*Handler)(Ctx *c, Warp *W, const Op *o, u32 g);

#define READ(r) ((const void *)(W->file + (r)))
#define WRITE(r) ((void *)(W->file + (r)))
#define LOST(r) (W->undefined[(r) >> 5])
#define UNDEFINED(r) (LOST(r).any)
#define FOR_LANES(g) for (int l = 0; l < 32; l++) if ((g) >> l & 1)

// Lanes in which a predicate, whose bytes are 0 or 1, is set.
static inline u32 lanes_of(const u8 *p) {
    u32 lanes = 0;
    for (int k = 0; k < 4; k++) { u64 v; memcpy(&v, p + 8 * k, 8); lanes |= (u32)((v * 0x0102040810204080ull) >> 56) << 8 * k; }
    return lanes;
}

static inline void undefined(Ctx *c, Warp *W, u32 lanes, u32 line) {
    if (lanes) report(c, UNDEFINED_REGISTER, line, 0, W->index * 32 + __builtin_ctz(lanes), 0, lanes, -1, 0);
}

static inline void changes(Warp *W, u32 r) {
    if (LOST(r).changed) return;
    LOST(r).changed = 1;
    W->changed[W->n_changed++] = r;
}

static inline void set_undefined(Warp *W, u32 r, u32 lanes, u32 g) {
    Lost *lost = &LOST(r);
    lost->fences = W->fences;
    if (!(lanes | lost->any)) return;
    changes(W, r);
    lost->any = (lost->any & ~g) | (lanes & g);
    for (int k = 0; k < 4; k++) lost->part[k] = (lost->part[k] & ~g) | (lanes & g);
}

static inline void set_part(Warp *W, u32 r, int k, u32 lanes, u32 g) {
    LOST(r).part[k] = (LOST(r).part[k] & ~g) | (lanes & g);
}

// ``any``, after its first parts were set.
static inline void sum_parts(Warp *W, u32 r, int count) {
    Lost *lost = &LOST(r);
    changes(W, r);
    lost->fences = W->fences;
    lost->any = 0;
    for (int k = 0; k < count; k++) lost->any |= lost->part[k];
}

static inline void together(Ctx *c, Warp *W, u32 members, u32 active, u32 line) {
    if (members != active) report(c, DIVERGENT_SYNC, line, 0, W->index * 32, 0, active, -1, 0);
}

// What lane l holds in a register of so many bytes.
static inline u64 lane(Warp *W, u32 r, int bytes, int l) {
    switch (bytes) {
        case 1: return ((const u8 *)READ(r))[l];
        case 2: return ((const u16 *)READ(r))[l];
        case 4: return ((const u32 *)READ(r))[l];
        default: return ((const u64 *)READ(r))[l];
    }
}

static inline void set_lane(Warp *W, u32 r, int bytes, int l, u64 v) {
    switch (bytes) {
        case 1: ((u8 *)WRITE(r))[l] = v; break;
        case 2: ((u16 *)WRITE(r))[l] = v; break;
        case 4: ((u32 *)WRITE(r))[l] = v; break;
        default: ((u64 *)WRITE(r))[l] = v;
    }
}
