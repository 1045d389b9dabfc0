/* The floor: the benchmark's training, dense and without dropout, as fast as one core does it.

   784-32-1: z1 = x W1 + b1, h = relu(z1), p = sigmoid(h w2 + b2), mean BCE, plain SGD.

   W1 is kept (in, out): a pixel's 32 weights are two vectors of 16 floats, so that one pixel of
   one row, broadcast, multiplies whole vectors. Both products with W1 hold their sums in
   registers: 8 rows x 2 vectors forward, 8 pixels x 2 vectors backward. With fewer, the latency
   of an FMA shows; with more than 32 (all that AVX-512 has), sums spill to memory.

   GCC's vector extensions, not intrinsics: on a machine without AVX-512 the same source compiles
   to narrower vectors. */

#include <math.h>
#include <string.h>

enum { PIXELS = 784, HIDDEN = 32, LANES = 16, ROWS = 8, COLUMNS = 8, MAX_BATCH = 64, AHEAD = 16 };

typedef float vec __attribute__((vector_size(LANES * sizeof(float))));
/* The same, read and written where only floats are aligned, and allowed to alias them. */
typedef float loose __attribute__((vector_size(LANES * sizeof(float)), aligned(4), may_alias));

/* What comparing two `vec`s gives: all bits set in the lanes where it holds. */
typedef int mask __attribute__((vector_size(LANES * sizeof(int))));

#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const float *from) { return *(const loose *)from; }
INLINE void store(float *to, vec value) { *(loose *)to = value; }

INLINE vec only_where(mask condition, vec value) { return (vec)((mask)value & condition); }

/* By halves: four additions one after another instead of sixteen. */
INLINE float sum(vec v) {
    v += __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
    v += __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
    v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
    return v[0] + v[1];
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

/* z1 of `rows` rows; a constant where it is inlined, so that the sums stay in registers. */
INLINE void hidden_rows(const Net *net, const float *x, int rows, float z1[][HIDDEN]) {
    vec low[ROWS], high[ROWS];
#pragma GCC unroll 8
    for (int row = 0; row < rows; row++) {
        low[row] = load(net->b1);
        high[row] = load(net->b1 + LANES);
    }
    for (int pixel = 0; pixel < PIXELS; pixel++) {
        const vec w_low = load(net->w1[pixel]), w_high = load(net->w1[pixel] + LANES);
        if (pixel % LANES == 0) prefetch_rows(x + AHEAD * PIXELS + pixel, rows);
#pragma GCC unroll 8
        for (int row = 0; row < rows; row++) {
            low[row] += x[row * PIXELS + pixel] * w_low;
            high[row] += x[row * PIXELS + pixel] * w_high;
        }
    }
#pragma GCC unroll 8
    for (int row = 0; row < rows; row++) {
        store(z1[row], low[row]);
        store(z1[row] + LANES, high[row]);
    }
}

static void hidden(const Net *net, const float *x, int batch, float z1[][HIDDEN]) {
    int row = 0;
    for (; row + ROWS <= batch; row += ROWS) hidden_rows(net, x + row * PIXELS, ROWS, z1 + row);
    for (; row < batch; row++) hidden_rows(net, x + row * PIXELS, 1, z1 + row);
}

/* torch's BCELoss of one row: logarithms no less than -100. */
INLINE float cross_entropy(float prob, float y) {
    const float log_p = fmaxf(logf(prob), -100), log_q = fmaxf(log1pf(-prob), -100);
    return -(y * log_p + (1 - y) * log_q);
}

/* From z1 to the mean loss; updates w2 and b2, and leaves in z1 minus lr times its gradient, so
   that the update of W1 only adds. */
static float output_layer(Net *net, const float *y, int batch, float lr, float z1[][HIDDEN]) {
    const vec zero = {0}, w_low = load(net->w2), w_high = load(net->w2 + LANES);
    vec update_low = zero, update_high = zero;
    float update_b2 = 0, loss = 0;
    for (int row = 0; row < batch; row++) {
        const vec z_low = load(z1[row]), z_high = load(z1[row] + LANES);
        const mask on_low = z_low > zero, on_high = z_high > zero;
        const vec h_low = only_where(on_low, z_low), h_high = only_where(on_high, z_high);
        const float prob = 1 / (1 + expf(-(sum(h_low * w_low + h_high * w_high) + net->b2)));
        const float delta = -lr / batch * (prob - y[row]); /* of BCE after a sigmoid */
        loss += cross_entropy(prob, y[row]);
        update_low += delta * h_low;
        update_high += delta * h_high;
        update_b2 += delta;
        store(z1[row], only_where(on_low, delta * w_low));
        store(z1[row] + LANES, only_where(on_high, delta * w_high));
    }
    store(net->w2, w_low + update_low);
    store(net->w2 + LANES, w_high + update_high);
    net->b2 += update_b2;
    return loss / batch;
}

/* W1 += x^T delta, the sums starting from the weights: no array of gradients. */
static void update_w1(Net *net, const float *x, int batch, float delta[][HIDDEN]) {
    for (int pixel = 0; pixel < PIXELS; pixel += COLUMNS) {
        vec low[COLUMNS], high[COLUMNS];
#pragma GCC unroll 8
        for (int column = 0; column < COLUMNS; column++) {
            low[column] = load(net->w1[pixel + column]);
            high[column] = load(net->w1[pixel + column] + LANES);
        }
        for (int row = 0; row < batch; row++) {
            const vec d_low = load(delta[row]), d_high = load(delta[row] + LANES);
#pragma GCC unroll 8
            for (int column = 0; column < COLUMNS; column++) {
                low[column] += x[row * PIXELS + pixel + column] * d_low;
                high[column] += x[row * PIXELS + pixel + column] * d_high;
            }
        }
#pragma GCC unroll 8
        for (int column = 0; column < COLUMNS; column++) {
            store(net->w1[pixel + column], low[column]);
            store(net->w1[pixel + column] + LANES, high[column]);
        }
    }
}

static void update_b1(Net *net, int batch, float delta[][HIDDEN]) {
    vec low = load(net->b1), high = load(net->b1 + LANES);
    for (int row = 0; row < batch; row++) {
        low += load(delta[row]);
        high += load(delta[row] + LANES);
    }
    store(net->b1, low);
    store(net->b1 + LANES, high);
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

/* FMAs on registers alone: 12 independent sums, more than an FMA's latency needs. Each tends to 2,
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

/* Read `count` floats and write them elsewhere. Written as a loop: memcpy would pick stores that
   go past the cache, which training does not use. */
void copy(float *to, const float *from, long count) {
    for (long i = 0; i + LANES <= count; i += LANES) store(to + i, load(from + i));
}
