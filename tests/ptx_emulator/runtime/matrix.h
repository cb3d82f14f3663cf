// Asynchronous copies, and fragments of matrices. Products are exact, their sums in double, rounded
// once: not the order of the hardware.
enum { BF16, F16, TF32 };

// cp.async: what it writes is there when it is waited for; until then the place holds NaN, written by nobody.
static void copy_later(Ctx *c, Warp *W, u64 to, u64 from, u32 size, u32 read, u32 thread, u32 line) {
    if (W->n_copies == MOST_COPIES) {            // nobody waits: the oldest never arrives
        report(c, IN_FLIGHT, W->copies[0].line, 0, thread, 0, 0, -1, 0);
        memmove(W->copies, W->copies + 1, sizeof(Copy) * --W->n_copies);
    }
    Copy *copy = W->copies + W->n_copies++;
    *copy = (Copy){to, {0}, size, thread, line, W->copy_groups[thread & 31]};
    if (read > size) report(c, OUT_OF_BOUNDS, line, 0, thread, 0, from, -1, 0);
    Allocation *s = c->allocations;
    for (u32 k = 0; k < size / 4; k++) {
        if (4 * k + 4 <= read) copy->data[k] = load(c, from + 4 * k, 4, thread, line, 0);
        else for (u32 b = 4 * k; b < read && b < size; b++)
            copy->data[k] |= (u32)load(c, from + b, 1, thread, line, 0) << 8 * (b & 3);
        store(c, to + 4 * k, 0x7fffffff, 4, thread, line, 1, 0);
        u64 off = (u32)(to + 4 * k);
        if (c->check && off + 4 <= s->size)
            for (u64 g = off >> s->shift; g <= (off + 3) >> s->shift; g++) s->cells[g].init = NEVER;
    }
}

static void finish_copies(Ctx *c, Warp *W, int pending, u32 lanes) {
    int kept = 0;
    for (int i = 0; i < W->n_copies; i++) {
        Copy *copy = W->copies + i;
        int l = copy->thread & 31;
        if (!(lanes >> l & 1) || copy->group >= W->copy_groups[l] - pending) { W->copies[kept++] = *copy; continue; }
        for (u32 k = 0; k < copy->size / 4; k++) store(c, copy->to + 4 * k, copy->data[k], 4, copy->thread, copy->line, 1, 0);
    }
    W->n_copies = kept;
}

// The lanes whose part was undefined.
static inline u32 load_matrix(Ctx *c, u32 *to, const u64 *rows, int trans, u32 warp, u32 line) {
    u32 out[32], lost = 0;
    for (int l = 0; l < 32; l++) {
        u32 t = warp * 32 + l;
        if (!trans) out[l] = load(c, rows[l >> 2] + (l & 3) * 4, 4, t, line, 1);
        else {
            out[l] = load(c, rows[(l & 3) * 2] + (l >> 2) * 2, 2, t, line, 1);
            lost |= (u32)c->read_undefined << l;
            out[l] |= (u32)load(c, rows[(l & 3) * 2 + 1] + (l >> 2) * 2, 2, t, line, 1) << 16;
        }
        lost |= (u32)c->read_undefined << l;
    }
    memcpy(to, out, sizeof out);
    return lost;
}

static inline void store_matrix(Ctx *c, const u32 *from, const u64 *rows, int trans, u32 warp, u32 line, u32 undefined_lanes) {
    for (int l = 0; l < 32; l++) {
        u32 t = warp * 32 + l; int u = undefined_lanes >> l & 1;
        if (!trans) store(c, rows[l >> 2] + (l & 3) * 4, from[l], 4, t, line, 1, u);
        else for (int h = 0; h < 2; h++) store(c, rows[(l & 3) * 2 + h] + (l >> 2) * 2, from[l] >> 16 * h & 0xffff, 2, t, line, 1, u);
    }
}

static inline f32 part(u32 v, int high, int kind) {
    if (kind == TF32) return as_f32(v & 0xffffe000u);
    u16 h = high ? v >> 16 : v;
    return kind == F16 ? from_f16(h) : from_bf16(h);
}

// A fragment of 16 rows and 32 bytes of each, as mma and wgmma lay it out.
static void unpack(f32 A[16][16], u32 **a, int kind) {
    for (int l = 0; l < 32; l++)
        for (int r = 0; r < 4; r++) {
            int row = (l >> 2) + (r & 1) * 8;
            if (kind == TF32) A[row][(l & 3) + (r >> 1) * 4] = part(a[r][l], 0, kind);
            else for (int h = 0; h < 2; h++) A[row][(l & 3) * 2 + (r >> 1) * 8 + h] = part(a[r][l], h, kind);
        }
}

static __attribute__((noinline)) void mma(u32 **d, u32 **x, u32 **y, u32 **z, int kind) {
    f32 A[16][16], B[16][8], out[32][4];
    int depth = kind == TF32 ? 8 : 16;
    unpack(A, x, kind);
    for (int l = 0; l < 32; l++)
        for (int r = 0; r < 2; r++) {
            if (kind == TF32) B[(l & 3) + r * 4][l >> 2] = part(y[r][l], 0, kind);
            else for (int h = 0; h < 2; h++) B[(l & 3) * 2 + r * 8 + h][l >> 2] = part(y[r][l], h, kind);
        }
    for (int l = 0; l < 32; l++)
        for (int r = 0; r < 4; r++) {
            int row = (l >> 2) + (r >> 1) * 8, column = (l & 3) * 2 + (r & 1);
            f64 sum = as_f32(z[r][l]);
            for (int k = 0; k < depth; k++) sum += (f64)A[row][k] * B[k][column];
            out[l][r] = sum;
        }
    for (int l = 0; l < 32; l++) for (int r = 0; r < 4; r++) memcpy(&d[r][l], &out[l][r], 4);
}

// wgmma: four warps, 16 rows each. What it reads and writes is its own until it is waited for: it is
// done only then, and what changed meanwhile shows.
// Byte of an element by a matrix descriptor: rows of the swizzled atom are 128, 64, 32 (or 16) bytes.
static inline u64 element(u64 descriptor, int outer, int k, int size, int trans) {
    u64 start = (descriptor & 0x3fff) << 4, leading = (descriptor >> 16 & 0x3fff) << 4, stride = (descriptor >> 32 & 0x3fff) << 4;
    int mode = descriptor >> 62 & 3, row = mode == 1 ? 128 : mode == 2 ? 64 : mode == 3 ? 32 : 16;
    u64 a;
    if (!trans) a = start + (u64)(outer >> 3) * stride + (outer & 7) * row + (mode ? k * size : (k * size >> 4) * leading + (k * size & 15));
    else {
        int across = row / size;   // elements of a row of the atom
        a = start + (u64)(outer / across) * leading + (u64)(k >> 3) * stride + (k & 7) * row + (outer % across) * size;
    }
    return mode ? a ^ ((a >> 7 & (mode == 1 ? 7 : mode == 2 ? 3 : 1)) << 4) : a;
}

static f32 fetch(Ctx *c, Warp *W, const Product *p, u64 a, int look) {
    int kind = p->kind, size = kind == TF32 ? 4 : 2; u32 line = p->line;
    Allocation *s = c->allocations;
    if (!look) {
        if (a + size > s->size) return NAN;
        return part(get(s->base + a, size), 0, kind);
    }
    u32 v = load(c, a, size, W->index * 32, line, 1);
    if (c->check && a + size <= s->size) {
        const Cell *k = s->cells + (a >> s->shift);
        int wrong = k->w_epoch > p->epoch ? RACE_WARPS : k->w_epoch > W->proxy_epoch ? MISSING_FENCE : 0;
        if (wrong) report(c, wrong, line, k->w_line, W->index * 32, k->w_thread, a, 0, a);
    }
    if (c->read_undefined) undefined(c, W, ~0u, line);
    return part(v, 0, kind);
}

// Every element that the product reads; a granule is looked at once.
static void operands(Ctx *c, Warp *W, Product *p, f32 A[16][16], f32 (*B)[16], int look) {
    int size = p->kind == TF32 ? 4 : 2, depth = 32 / size, step = (1 << c->allocations->shift) / size;
    if (step < 1) step = 1;
    if (p->in_registers) unpack(A, p->a, p->kind);
    else for (int r = 0; r < 16; r++) for (int k = 0; k < depth; k++)
        A[r][k] = fetch(c, W, p, element(p->at_a, (W->index & 3) * 16 + r, k, size, p->trans_a), look && (p->trans_a || k % step == 0));
    for (int j = 0; j < p->columns; j++) for (int k = 0; k < depth; k++)
        B[j][k] = fetch(c, W, p, element(p->at_b, j, k, size, p->trans_b), look && (p->trans_b || k % step == 0));
}

// An accumulator while it is being added to; no instruction of the warp's own wrote it.
static inline void in_flight(Warp *W, u32 r, u32 lanes) {
    Lost *lost = &LOST(r);
    changes(W, r);
    lost->any = lanes;
    for (int k = 0; k < 4; k++) lost->part[k] = lanes;
}

static void begin_product(Ctx *c, Warp *W, Product one) {
    if (W->n_products == MOST_PRODUCTS) {        // nobody waits: this one never ends
        report(c, IN_FLIGHT, one.line, 0, W->index * 32, 0, 0, -1, 0);
        return;
    }
    int unfenced = !W->fences;                   // registers that were written since the last one
    for (int r = 0; r < one.columns / 2 + 4 * one.in_registers; r++) unfenced |= LOST(one.target[r]).fences == W->fences;
    if (unfenced) report(c, MISSING_FENCE, one.line, 0, W->index * 32, 0, 0, -1, 0);
    int pending = 0;
    for (int i = 0; i < W->n_products; i++) pending |= W->products[i].target[0] == one.target[0];
    if (one.scale && !pending) for (int r = 0; r < one.columns / 2; r++) undefined(c, W, UNDEFINED(one.target[r]), one.line);
    one.group = W->product_groups;
    one.epoch = c->epoch;
    W->products[W->n_products++] = one;
    f32 A[16][16], B[256][16];
    if (c->check) operands(c, W, &one, A, B, 1);
    for (int r = 0; r < one.columns / 2; r++) in_flight(W, one.target[r], ~0u);
}

static void finish_products(Ctx *c, Warp *W, int pending) {
    int done = 0;
    while (done < W->n_products && W->products[done].group < W->product_groups - pending) {
        Product *p = W->products + done++;
        f32 A[16][16], B[256][16];
        operands(c, W, p, A, B, c->check);
        int depth = p->kind == TF32 ? 8 : 16;
        for (int j = 0; j < p->columns; j++)
            for (int row = 0; row < 16; row++) {
                int r = j / 8 * 4 + (row >> 3) * 2 + (j & 1), l = (row & 7) * 4 + (j & 7) / 2;
                u32 *d = (u32 *)WRITE(p->target[r]) + l;
                f64 sum = p->scale ? as_f32(*d) : 0;
                for (int k = 0; k < depth; k++) sum += (f64)A[row][k] * B[j][k];
                f32 out = sum;
                memcpy(d, &out, 4);
            }
        for (int r = 0; r < p->columns / 2; r++) in_flight(W, p->target[r], 0);
    }
    memmove(W->products, W->products + done, sizeof(Product) * (W->n_products - done));
    W->n_products -= done;
    for (int i = 0; i < W->n_products; i++)      // what is still going writes them too
        for (int r = 0; r < W->products[i].columns / 2; r++) in_flight(W, W->products[i].target[r], ~0u);
}
