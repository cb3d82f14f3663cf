// What C has no operator for.
static inline f32 as_f32(u32 bits) { f32 f; memcpy(&f, &bits, 4); return f; }
static inline f64 as_f64(u64 bits) { f64 f; memcpy(&f, &bits, 8); return f; }
static inline f32 ftz(f32 a) { return fabsf(a) < 1.17549435e-38f ? copysignf(0, a) : a; }

// Of a number and NaN, the number; -0 is less than +0.
#define EXTREMES(T) \
    static inline T min_##T(T a, T b) { return a != a ? b : b != b ? a : a < b ? a : b < a ? b : (signbit(a) ? a : b); } \
    static inline T max_##T(T a, T b) { return a != a ? b : b != b ? a : a > b ? a : b > a ? b : (signbit(a) ? b : a); }
EXTREMES(f32)
EXTREMES(f64)

// What is out of range becomes the nearest that is not, and NaN 0.
static inline s64 to_signed(f64 a, s64 low, s64 high) {
    return a != a ? 0 : a <= (f64)low ? low : a >= (f64)high ? high : (s64)a;
}
static inline u64 to_unsigned(f64 a, u64 high) { return a != a || a <= 0 ? 0 : a >= (f64)high ? high : (u64)a; }

static inline f32 from_bf16(u16 h) { return as_f32((u32)h << 16); }
static inline u16 to_bf16(f32 f) {
    u32 u; memcpy(&u, &f, 4);
    if (f != f) return 0x7fff;
    return (u + 0x7fff + ((u >> 16) & 1)) >> 16;
}
static inline f32 from_f16(u16 h) { _Float16 x; memcpy(&x, &h, 2); return x; }
static inline u16 to_f16(f64 f) {
    if (f != f) return 0x7fff;
    _Float16 x = (_Float16)f; u16 h; memcpy(&h, &x, 2); return h;
}
// Ties away from zero; NaN and infinity stay what they are.
static inline u32 to_tf32(u32 u) {
    if ((u & 0x7f800000u) == 0x7f800000u) return u & 0x7fffffu ? 0x7fffffffu : u;
    return (u + 0x1000u) & 0xffffe000u;
}

// By zero, and by -1 where that overflows, C has no answer: what the device gives.
#define QUOTIENTS(N) \
    static inline u##N quotient_u##N(u##N a, u##N b) { return b ? a / b : (u##N)-1; } \
    static inline u##N remainder_u##N(u##N a, u##N b) { return b ? a % b : a; } \
    static inline s##N quotient_s##N(s##N a, s##N b) { return b == 0 ? -1 : b == -1 ? (s##N)(0 - (u##N)a) : a / b; } \
    static inline s##N remainder_s##N(s##N a, s##N b) { return b == 0 ? a : b == -1 ? 0 : a % b; }
QUOTIENTS(32)
QUOTIENTS(64)

// Each four bits of ``order`` say which byte of both, or that its sign fills the place.
static inline u32 permuted(u32 low, u32 high, u32 order) {
    u64 both = (u64)high << 32 | low;
    u32 result = 0;
    for (int k = 0; k < 4; k++) {
        u32 chosen = order >> 4 * k & 15, byte = both >> 8 * (chosen & 7) & 255;
        result |= (chosen & 8 ? (byte >> 7) * 255 : byte) << 8 * k;
    }
    return result;
}

// ``size`` bits from ``at`` on; of what lies past the width, the sign of the last bit there is.
#define BIT_FIELD(N) \
    static inline u##N field_u##N(u##N a, u32 at, u32 size) { \
        at &= 255; size &= 255; \
        if (at >= N || !size) return 0; \
        a >>= at; \
        return size >= N ? a : a & (((u##N)1 << size) - 1); \
    } \
    static inline s##N field_s##N(s##N a, u32 at, u32 size) { \
        at &= 255; size &= 255; \
        u32 end = at + size > N ? N : at + size; \
        if (!size) return 0; \
        s##N fill = (u##N)a >> (end - 1) & 1 ? (s##N)-1 : 0; \
        if (at >= N) return fill; \
        u32 width = end - at; \
        u##N low = (u##N)a >> at; \
        if (width >= N) return (s##N)low; \
        u##N keep = ((u##N)1 << width) - 1; \
        return (s##N)((low & keep) | ((u##N)fill & ~keep)); \
    }
BIT_FIELD(32)
BIT_FIELD(64)
