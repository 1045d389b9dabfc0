/* The floor: the benchmark's training, dense and without dropout, as fast as one core does it.

   784-32-1: z1 = x W1 + b1, h = relu(z1), p = sigmoid(h w2 + b2), mean BCE, plain SGD.

   W1 is kept (in, out): a pixel's 32 weights are whole vectors, so that one pixel of one row,
   broadcast, multiplies whole vectors. Both products with W1 hold their sums in registers: so many
   rows forward, or pixels backward, by the two vectors of a slice of the hidden units. With fewer
   sums, the latency of an FMA shows; with more than the target has registers, beside two for the
   slice's factors and one for what is broadcast, they spill to memory.

   GCC's vector extensions, not intrinsics: LANES is as wide as the target's vectors, because wider
   ones would take several registers each. */

#include <math.h>
#include <string.h>

#if defined(__AVX512F__) /* 32 registers of 16 floats */
enum { LANES = 16, ROWS = 8, COLUMNS = 8 };
#elif defined(__AVX__) /* 16 of 8 */
enum { LANES = 8, ROWS = 6, COLUMNS = 6 };
#elif defined(__aarch64__) /* 32 of 4 */
enum { LANES = 4, ROWS = 8, COLUMNS = 8 };
#else /* 16 of 4, as SSE2 has */
enum { LANES = 4, ROWS = 6, COLUMNS = 6 };
#endif

enum { PIXELS = 784, HIDDEN = 32, VECTORS = HIDDEN / LANES, SLICE = 2 * LANES };
enum { MAX_BATCH = 64, LINE = 16 /* floats of a cache line */, AHEAD = 16 };

typedef float vec __attribute__((vector_size(LANES * sizeof(float))));
/* The same, read and written where only floats are aligned, and allowed to alias them. */
typedef float loose __attribute__((vector_size(LANES * sizeof(float)), aligned(4), may_alias));

/* What comparing two `vec`s gives: all bits set in the lanes where it holds. */
typedef int mask __attribute__((vector_size(LANES * sizeof(int))));

#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const float *from) { return *(const loose *)from; }
INLINE void store(float *to, vec value) { *(loose *)to = value; }

INLINE vec only_where(mask condition, vec value) { return (vec)((mask)value & condition); }

/* By halves: a few additions one after another instead of one for each lane. */
INLINE float sum(vec v) {
    float lanes[LANES];
    store(lanes, v);
#pragma GCC unroll 4
    for (int half = LANES / 2; half > 0; half /= 2)
#pragma GCC unroll 8
        for (int lane = 0; lane < half; lane++) lanes[lane] += lanes[lane + half];
    return lanes[0];
}

typedef struct {
    float w1[PIXELS][HIDDEN] __attribute__((aligned(64)));
    float b1[HIDDEN] __attribute__((aligned(64)));
    float w2[HIDDEN] __attribute__((aligned(64)));
    float b2;
} Net;

/* Ask for a cache line of each of `rows` rows, which the next batch will read: the rows come from
   memory once an epoch, and eight streams at once are more than the hardware follows by itself. A
   prefetch beyond the last row does nothing. */
INLINE void prefetch_rows(const float *x, int rows) {
#pragma GCC unroll 8
    for (int row = 0; row < rows; row++) __builtin_prefetch(x + row * PIXELS, 0, 2);
}

/* The slice from `unit` on of z1 of `rows` rows; a constant where it is inlined, so that the sums
   stay in registers. */
INLINE void hidden_rows(const Net *net, const float *x, int rows, int unit, float z1[][HIDDEN]) {
    vec low[ROWS], high[ROWS];
#pragma GCC unroll 8
    for (int row = 0; row < rows; row++) {
        low[row] = load(net->b1 + unit);
        high[row] = load(net->b1 + unit + LANES);
    }
    for (int pixel = 0; pixel < PIXELS; pixel++) {
        const float *w1 = net->w1[pixel] + unit;
        const vec w_low = load(w1), w_high = load(w1 + LANES);
        if (unit == 0 && pixel % LINE == 0) prefetch_rows(x + AHEAD * PIXELS + pixel, rows);
#pragma GCC unroll 8
        for (int row = 0; row < rows; row++) {
            low[row] += x[row * PIXELS + pixel] * w_low;
            high[row] += x[row * PIXELS + pixel] * w_high;
        }
    }
#pragma GCC unroll 8
    for (int row = 0; row < rows; row++) {
        store(z1[row] + unit, low[row]);
        store(z1[row] + unit + LANES, high[row]);
    }
}

INLINE void hidden_block(const Net *net, const float *x, int rows, float z1[][HIDDEN]) {
#pragma GCC unroll 4
    for (int unit = 0; unit < HIDDEN; unit += SLICE) hidden_rows(net, x, rows, unit, z1);
}

/* A function of its own: inlined into a step, GCC would count up a pointer for each row. */
static __attribute__((noinline)) void hidden(const Net *net, const float *x, int batch,
                                             float z1[][HIDDEN]) {
    int row = 0;
    for (; row + ROWS <= batch; row += ROWS) hidden_block(net, x + row * PIXELS, ROWS, z1 + row);
    for (; row + 4 <= batch; row += 4) hidden_block(net, x + row * PIXELS, 4, z1 + row);
    for (; row < batch; row++) hidden_block(net, x + row * PIXELS, 1, z1 + row);
}

/* torch's BCELoss of one row: logarithms no less than -100. */
INLINE float cross_entropy(float prob, float y) {
    const float log_p = fmaxf(logf(prob), -100), log_q = fmaxf(log1pf(-prob), -100);
    return -(y * log_p + (1 - y) * log_q);
}

/* From z1 to the mean loss; updates w2 and b2, and leaves in z1 minus lr times its gradient, so
   that the update of W1 only adds. */
static float output_layer(Net *net, const float *y, int batch, float lr, float z1[][HIDDEN]) {
    const vec zero = {0};
    vec w2[VECTORS], update[VECTORS];
    float update_b2 = 0, loss = 0;
#pragma GCC unroll 8
    for (int v = 0; v < VECTORS; v++) w2[v] = load(net->w2 + v * LANES), update[v] = zero;
    for (int row = 0; row < batch; row++) {
        vec logit = zero;
#pragma GCC unroll 8
        for (int v = 0; v < VECTORS; v++) {
            const vec z = load(z1[row] + v * LANES);
            logit += only_where(z > zero, z) * w2[v];
        }
        const float prob = 1 / (1 + expf(-(sum(logit) + net->b2)));
        const float delta = -lr / batch * (prob - y[row]); /* of BCE after a sigmoid */
        loss += cross_entropy(prob, y[row]);
        update_b2 += delta;
#pragma GCC unroll 8
        for (int v = 0; v < VECTORS; v++) {
            const vec z = load(z1[row] + v * LANES);
            update[v] += delta * only_where(z > zero, z);
            store(z1[row] + v * LANES, only_where(z > zero, delta * w2[v]));
        }
    }
#pragma GCC unroll 8
    for (int v = 0; v < VECTORS; v++) store(net->w2 + v * LANES, w2[v] + update[v]);
    net->b2 += update_b2;
    return loss / batch;
}

/* The same slice of `columns` pixels' weights; a constant where it is inlined. */
INLINE void update_columns(float w1[][HIDDEN], const float *x, int batch, int columns, int unit,
                           float delta[][HIDDEN]) {
    vec low[COLUMNS], high[COLUMNS];
#pragma GCC unroll 8
    for (int column = 0; column < columns; column++) {
        low[column] = load(w1[column] + unit);
        high[column] = load(w1[column] + unit + LANES);
    }
    for (int row = 0; row < batch; row++) {
        const vec d_low = load(delta[row] + unit), d_high = load(delta[row] + unit + LANES);
#pragma GCC unroll 8
        for (int column = 0; column < columns; column++) {
            low[column] += x[row * PIXELS + column] * d_low;
            high[column] += x[row * PIXELS + column] * d_high;
        }
    }
#pragma GCC unroll 8
    for (int column = 0; column < columns; column++) {
        store(w1[column] + unit, low[column]);
        store(w1[column] + unit + LANES, high[column]);
    }
}

/* W1 += x^T delta, the sums starting from the weights: no array of gradients. */
static void update_w1(Net *net, const float *x, int batch, float delta[][HIDDEN]) {
    enum { REST = PIXELS % COLUMNS };
    int pixel = 0;
    for (; pixel + COLUMNS <= PIXELS; pixel += COLUMNS)
        for (int unit = 0; unit < HIDDEN; unit += SLICE)
            update_columns(net->w1 + pixel, x + pixel, batch, COLUMNS, unit, delta);
    if (REST)
        for (int unit = 0; unit < HIDDEN; unit += SLICE)
            update_columns(net->w1 + pixel, x + pixel, batch, REST, unit, delta);
}

static void update_b1(Net *net, int batch, float delta[][HIDDEN]) {
    for (int unit = 0; unit < HIDDEN; unit += LANES) {
        vec b1 = load(net->b1 + unit);
        for (int row = 0; row < batch; row++) b1 += load(delta[row] + unit);
        store(net->b1 + unit, b1);
    }
}

static float step(Net *net, const float *x, const float *y, int batch, float lr) {
    float z1[MAX_BATCH][HIDDEN] __attribute__((aligned(64)));
    hidden(net, x, batch, z1);
    const float loss = output_layer(net, y, batch, lr, z1);
    update_w1(net, x, batch, z1);
    update_b1(net, batch, z1);
    return loss;
}

int net_bytes(void) { return sizeof(Net); }
int max_batch(void) { return MAX_BATCH; }

/* Fill the net from torch's arrays, whose w1 is (out, in). */
void set_weights(Net *net, const float *w1, const float *b1, const float *w2, const float *b2) {
    for (int pixel = 0; pixel < PIXELS; pixel++)
        for (int unit = 0; unit < HIDDEN; unit++) net->w1[pixel][unit] = w1[unit * PIXELS + pixel];
    memcpy(net->b1, b1, sizeof net->b1);
    memcpy(net->w2, w2, sizeof net->w2);
    net->b2 = *b2;
}

void get_weights(const Net *net, float *w1, float *b1, float *w2, float *b2) {
    for (int pixel = 0; pixel < PIXELS; pixel++)
        for (int unit = 0; unit < HIDDEN; unit++) w1[unit * PIXELS + pixel] = net->w1[pixel][unit];
    memcpy(b1, net->b1, sizeof net->b1);
    memcpy(w2, net->w2, sizeof net->w2);
    *b2 = net->b2;
}

/* Every epoch over `n` rows in order; one loss a step. */
void train(Net *net, const float *x, const float *y, int n, int batch, int epochs, float lr,
           float *losses) {
    for (int epoch = 0; epoch < epochs; epoch++)
        for (int row = 0; row < n; row += batch) {
            const int rows = n - row < batch ? n - row : batch;
            *losses++ = step(net, x + (long)row * PIXELS, y + row, rows, lr);
        }
}

/* FMAs on registers alone: 12 independent sums, more than an FMA's latency needs, and few enough to
   fit beside two constants into the 16 registers that the least of targets has. Each tends to 2,
   so that neither overflow nor denormal numbers slow it down. `seed` is where they start, unknown
   to the compiler, and where their total goes, so that it can leave nothing out. Returns how many
   floating-point operations it did. */
double peak_fma(long rounds, float *seed) {
    enum { SUMS = 12 };
    vec sums[SUMS], half, one, total = {0};
    for (int lane = 0; lane < LANES; lane++) half[lane] = 0.5f, one[lane] = 1;
    for (int i = 0; i < SUMS; i++) sums[i] = *seed * (float)i * one;
    for (long round = 0; round < rounds; round++)
#pragma GCC unroll 12
        for (int i = 0; i < SUMS; i++) sums[i] = sums[i] * half + one;
    for (int i = 0; i < SUMS; i++) total += sums[i];
    *seed = sum(total);
    return 2.0 * LANES * SUMS * rounds;
}
