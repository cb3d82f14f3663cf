// Programs of a launch one after another, the warps of each by turns, up to the next barrier or (if
// preemptive) for a few blocks.
enum { RUN, WAIT, DONE, PAUSE };
enum { PLAIN, SELECT, COPY };                          // Op.c of a form; Op.d: 16 bits of its result, how often
enum { ENTER, BRANCH, EXIT, BARRIER, FIRST_SPECIAL, FIRST_FORM = FIRST_SPECIAL + sizeof SPECIAL / sizeof *SPECIAL };

// The instruction that is furthest behind, and the lanes that are there.
static u32 behind(Warp *W, u32 *lanes) {
    u32 low = ~0u;
    FOR_LANES(W->alive) if (W->pc[l] < low) low = W->pc[l];
    *lanes = 0;
    FOR_LANES(W->alive) if (W->pc[l] == low) *lanes |= 1u << l;
    if (*lanes == W->alive) W->diverged = 0;
    return low;
}

// Of what a form gives: undefined where any source is; but a choice only where what it takes is, and
// a copy, or the low bits of one, where these are.
static void spread(Warp *W, const Op *o, u32 g) {
    u32 t = o->target[0], lost = UNDEFINED(o->source[0]) | UNDEFINED(o->source[1]) | UNDEFINED(o->source[2]);
    if (!lost || o->c == PLAIN) { set_undefined(W, t, lost, g); return; }
    Lost x = LOST(o->source[0]), y = LOST(o->source[1]);
    u32 taken = o->c == SELECT ? lanes_of(READ(o->source[2])) : ~0u, test = o->c == SELECT ? UNDEFINED(o->source[2]) : 0;
    for (int k = 0; k < o->d; k++) set_part(W, t, k, (taken & x.part[k]) | (~taken & y.part[k]) | test, g);
    sum_parts(W, t, o->d);
}

// Lanes that diverge run lowest block first until they meet again.
static int run_warp(Ctx *c, Warp *W, const Program *P) {
    u32 m, pc;
    if (!W->diverged) { m = W->alive; pc = W->current; goto entered; }
schedule:
    if (c->instructions > c->limit) return PAUSE;
    pc = behind(W, &m);
    if (pc == ~0u) return DONE;
entered:
    if (c->stopped) return PAUSE;
    c->profile[P->ops[pc].block]++;
    c->instructions += P->ops[pc].n;
    c->sync = (W->index << 24) + W->syncs;
    for (pc++;;) {
        const Op *o = P->ops + pc;
        u32 g = m;
        if (o->guard) {
            undefined(c, W, UNDEFINED(o->guard) & m, o->line);
            u32 set = lanes_of(READ(o->guard));
            g &= o->negated ? ~set : set;
        }
        switch (o->code) {
            case ENTER:
                if (W->diverged) { FOR_LANES(m) W->pc[l] = pc; goto schedule; }
                if (--W->fuel < 0) { W->current = pc; return PAUSE; }
                goto entered;
            case BRANCH:
                if (g == m) { pc = o->a; continue; }
                if (g) {
                    report(c, DIVERGENT_BRANCH, o->line, 0, W->index * 32, 0, g, -1, 0);
                    FOR_LANES(m) W->pc[l] = g >> l & 1 ? (u32)o->a : pc + 1;
                    W->diverged = 1;
                    goto schedule;
                }
                break;
            case EXIT:
                W->alive &= ~g;
                if (g && g != m) report(c, DIVERGENT_BRANCH, o->line, 0, W->index * 32, 0, g, -1, 0);
                if (!(m &= ~g)) { if (W->diverged) goto schedule; return DONE; }
                break;
            case BARRIER:
                if (!g) break;
                if (g != ~0u) report(c, DIVERGENT_BARRIER, o->line, 0, W->index * 32, 0, g, -1, 0);
                FOR_LANES(m) W->pc[l] = pc + 1;
                W->barrier_line = o->line;
                W->asked = o->a;
                W->current = pc + 1;
                return WAIT;
            default:
                if (!g) break;
                if (o->code >= FIRST_FORM) {
                    spread(W, o, g);
                    FORMS[o->code - FIRST_FORM](c, W, o, g);
                } else SPECIAL[o->code - FIRST_SPECIAL](c, W, o, g);
        }
        pc++;
    }
}

static void shuffle(Ctx *c, u32 *order, u32 count) {
    for (u32 i = 0; i < count; i++) order[i] = c->order == 1 ? count - 1 - i : i;
    if (c->order < 2) return;
    for (u32 i = count; i-- > 1;) { u32 j = draw(c) % (i + 1), x = order[i]; order[i] = order[j]; order[j] = x; }
}

static void start_program(Ctx *c, Warp *warps, const Program *P, u32 poison) {
    c->program_first = c->asked_epoch = ++c->epoch;
    for (u32 w = 0; w < P->warps; w++) {
        Warp *W = warps + w;
        for (u32 i = 0; i < W->n_changed; i++) LOST(W->changed[i]) = NOBODY;
        W->n_changed = 0;
        for (u32 l = 0; l < 32; l++) {
            set_lane(W, P->thread_numbers, 4, l, w * 32 + l);
            for (int k = 0; k < 3; k++) set_lane(W, P->program_number[k], 4, l, c->cta[k]);
        }
        W->alive = ~0u; W->index = w; W->status = RUN;
        W->current = W->diverged = W->syncs = W->barrier_line = W->proxy_epoch = W->fences = 0;
        W->n_copies = W->n_products = W->product_groups = 0;
        memset(W->copy_groups, 0, sizeof W->copy_groups);
    }
    Allocation *s = c->allocations;                // shared memory is nobody's yet
    memset((void *)s->base, poison, s->size);
    memset(s->cells, 0, sizeof(Cell) * ((s->size >> s->shift) + 1));
}

// Until all warps are done; 0 where the limit was reached.
static int run_program(Ctx *c, Warp *warps, const Program *P) {
    for (;;) {
        u32 running = 0, waiting = 0, done = 0, line = 0, asked = 1, order[32];
        shuffle(c, order, P->warps);
        for (u32 o = 0; o < P->warps; o++) {
            Warp *W = warps + order[o];
            if (W->status != RUN && W->status != PAUSE) continue;
            W->fuel = c->order == 3 ? (int)(draw(c) % 4) : 1 << 14;
            W->status = run_warp(c, W, P);
        }
        for (u32 w = 0; w < P->warps; w++) {
            int status = warps[w].status;
            running += status == RUN || status == PAUSE; waiting += status == WAIT; done += status == DONE;
        }
        if (c->stopped) return 0;
        if (c->instructions > c->limit) { report(c, DEADLOCK, 0, 0, 0, 0, 0, -1, 0); return 0; }
        if (running) continue;
        if (!waiting) {
            for (u32 w = 0; w < P->warps; w++) {
                Warp *W = warps + w;
                if (W->n_copies || W->n_products)
                    report(c, IN_FLIGHT, W->n_copies ? W->copies[0].line : W->products[0].line, 0, w * 32, 0, 0, -1, 0);
            }
            return 1;
        }
        for (u32 w = 0; w < P->warps; w++) {
            if (warps[w].status != WAIT) continue;
            if (line && line != warps[w].barrier_line) report(c, MIXED_BARRIER, line, warps[w].barrier_line, w * 32, 0, 0, -1, 0);
            line = warps[w].barrier_line;
            asked &= warps[w].asked;
            warps[w].status = RUN;
        }
        if (done) report(c, EXITED_BARRIER, line, 0, 0, 0, 0, -1, 0);
        c->epoch++; c->barriers++;
        if (asked || !c->asked_only) c->asked_epoch = c->epoch;
    }
}

void launch(Ctx *c, const Program *P, u32 poison) {
    c->launch_first = ++c->epoch;
    u32 programs = c->grid[0] * c->grid[1] * c->grid[2], *order = malloc(4 * (u64)programs);
    Warp *warps = malloc(sizeof(Warp) * P->warps);
    for (u32 w = 0; w < P->warps; w++) {
        u64 registers = P->file_bytes / 32;
        warps[w].file = aligned_alloc(64, (P->file_bytes + 63) / 64 * 64);
        memcpy(warps[w].file, P->file, P->file_bytes);
        warps[w].undefined = calloc(registers, sizeof(Lost));
        for (u64 r = P->defined / 32; r < registers; r++) warps[w].undefined[r] = NOBODY;   // nor constant
        warps[w].changed = malloc(registers * sizeof(u32));
        warps[w].n_changed = 0;
    }
    shuffle(c, order, programs);
    for (u32 i = 0; i < programs; i++) {
        c->program = order[i];
        c->cta[0] = order[i] % c->grid[0];
        c->cta[1] = order[i] / c->grid[0] % c->grid[1];
        c->cta[2] = order[i] / c->grid[0] / c->grid[1];
        start_program(c, warps, P, poison);
        if (!run_program(c, warps, P)) break;
    }
    for (u32 w = 0; w < P->warps; w++) { free(warps[w].file); free(warps[w].undefined); free(warps[w].changed); }
    free(warps);
    free(order);
}
