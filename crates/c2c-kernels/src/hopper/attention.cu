// Attention of new tokens over a cache in bf16, with scores, softmax and sums in f32 that never leave the multiprocessor (the
// online softmax of FlashAttention, arXiv 2205.14135). Around it stand what `attention.rs` defines: WARPGROUPS, D, HAS_REAL and
// the instructions as SCORES(d, a, b), both factors in shared memory, and VALUES(d, a, b), the left one in registers.
//
// A block does a head's ROWS queries; every warpgroup 64 of them. Keys and values come 64 slots at a time into two buffers each:
// while one is used, the next is on its way. Their lines are cut in panels of 64 elements, a line of shared memory each.

#define THREADS (128 * WARPGROUPS)
#define ROWS (64 * WARPGROUPS)
#define SLOTS 64
#define PANELS (D / 64)
#define Q_BYTES (ROWS * D * 2)
#define KV_BYTES (SLOTS * D * 2)

// Sizes; steps in elements, from one batch row and one head of the cache to the next.
struct Info {
    u64 tokens, slots, heads, group, window;
    u64 row_step, head_step;
};

// LINES rows of D elements from `first` on; zeros from `end` on.
template <int LINES> __device__ __forceinline__ void load_rows(u32 to, const bf16* from, int first, int end) {
    constexpr int PIECES = D / 8, STEP = THREADS / PIECES;
    int piece = threadIdx.x % PIECES, line = threadIdx.x / PIECES;
    u32 panel = to + piece / 8 * (LINES * LINE);
#pragma unroll
    for (int i = 0; i < LINES / STEP; ++i) {
        int own = line + i * STEP;
        bool there = first + own < end;
        const bf16* source = there ? from + (u64)(first + own) * D + piece * 8 : from;
        copy_piece(panel + own * LINE + ((piece % 8 ^ own % 8) << 4), source, there ? 16 : 0);
    }
}

// 2^x; 0 for minus infinity.
__device__ __forceinline__ float exp2_of(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Four lanes hold a row.
__device__ __forceinline__ float of_row(float x, bool largest) {
#pragma unroll
    for (int lanes = 1; lanes < 4; lanes *= 2) {
        float other = __shfl_xor_sync(0xffffffff, x, lanes);
        x = largest ? fmaxf(x, other) : x + other;
    }
    return x;
}

// Two blocks a multiprocessor, where their registers do: one multiplies while the other is at its softmax.
extern "C" __global__ void __launch_bounds__(THREADS, D < 256 ? 2 : 1)
    attention(const bf16* __restrict__ query, const bf16* __restrict__ key, const bf16* __restrict__ value,
              const int* __restrict__ real, bf16* __restrict__ out, const __grid_constant__ Info info) {
    extern __shared__ unsigned char memory[];
    u32 shared = ((u32)__cvta_generic_to_shared(memory) + 1023) & ~1023u;
    const float nothing = __int_as_float(0xff800000);
    const float log2e = 1.4426950408889634f;
    int tokens = info.tokens, slots = info.slots, window = info.window;
    int head = blockIdx.y, past = slots - tokens;
    // The last queries see most: they begin first.
    int first = (gridDim.x - 1 - blockIdx.x) * ROWS;
    query += (blockIdx.z * info.heads + head) * tokens * D;
    u64 base = blockIdx.z * info.row_step + head / info.group * info.head_step;
    key += base;
    value += base;
    real += (u64)blockIdx.z * slots;
    int earliest = past + first, latest = past + min(first + ROWS, tokens) - 1;
    int begin = max(earliest - window + 1, 0) / SLOTS, end = latest / SLOTS + 1;

    u32 queries = shared, keys = shared + Q_BYTES, values = keys + 2 * KV_BYTES;
    load_rows<ROWS>(queries, query, first, tokens);
    load_rows<SLOTS>(keys, key, begin * SLOTS, slots);
    commit_copies();
    load_rows<SLOTS>(values, value, begin * SLOTS, slots);
    commit_copies();

    int group = threadIdx.x / 128, thread = threadIdx.x % 128, lane = thread % 32;
    // A thread has two rows of its warp's 16, 8 apart, and of each two neighbours in every 8 columns.
    int own_row = thread / 32 * 16 + lane / 4, own_column = lane % 4 * 2;
    int own_slot = earliest + group * 64 + own_row;
    float made[D / 2];
#pragma unroll
    for (int i = 0; i < D / 2; ++i) made[i] = 0.0f;
    float top[2] = {nothing, nothing}, sum[2] = {0.0f, 0.0f};

    for (int tile = begin; tile < end; ++tile) {
        u32 buffer = (tile - begin) % 2 * KV_BYTES;
        // Keys have arrived, and all warpgroups are done with the tile before, whose buffers are filled again.
        arrived<1>();
        if (tile + 1 < end) load_rows<SLOTS>(keys + (KV_BYTES - buffer), key, (tile + 1) * SLOTS, slots);
        commit_copies();
        if (tile + 1 < end) load_rows<SLOTS>(values + (KV_BYTES - buffer), value, (tile + 1) * SLOTS, slots);
        commit_copies();

        float scores[SLOTS / 2];
#pragma unroll
        for (int i = 0; i < SLOTS / 2; ++i) scores[i] = 0.0f;
        begin_products();
#pragma unroll
        for (int step = 0; step < D / 16; ++step) {
            int panel = step / 4, within = step % 4 * 32;
            u64 lhs = described(queries + panel * (ROWS * LINE) + group * BLOCK + within);
            u64 rhs = described(keys + buffer + panel * BLOCK + within);
            SCORES(scores, lhs, rhs);
        }
        commit_products();
        wait_for_products<0>();

        int slot = tile * SLOTS;
        if (HAS_REAL || slot + SLOTS - 1 > earliest || slot + window <= latest) {
#pragma unroll
            for (int i = 0; i < SLOTS / 2; ++i) {
                int at = slot + i / 4 * 8 + own_column + i % 2, own = own_slot + i % 4 / 2 * 8;
                bool seen = at <= own && at + window > own;
                if (HAS_REAL) seen = seen && at < slots && real[at] != 0;
                if (!seen) scores[i] = nothing;
            }
        }

        float shrunk[2];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float before = top[half], now = before;
#pragma unroll
            for (int i = 0; i < SLOTS / 4; ++i) now = fmaxf(now, scores[i / 2 * 4 + half * 2 + i % 2]);
            now = of_row(now, true);
            top[half] = now;
            // A row that has seen nothing yet stays one of zeros.
            float level = now == nothing ? 0.0f : now * log2e;
            shrunk[half] = exp2_of(before * log2e - level);
            float added = 0.0f;
#pragma unroll
            for (int i = 0; i < SLOTS / 4; ++i) {
                float& score = scores[i / 2 * 4 + half * 2 + i % 2];
                score = exp2_of(score * log2e - level);
                added += score;
            }
            sum[half] = sum[half] * shrunk[half] + added;
        }
#pragma unroll
        for (int i = 0; i < D / 2; ++i) made[i] *= shrunk[i % 4 / 2];
        u32 weights[SLOTS / 4];
#pragma unroll
        for (int i = 0; i < SLOTS / 4; ++i) weights[i] = packed(scores[2 * i], scores[2 * i + 1]);

        // Values have arrived; what was just asked for may still be on its way.
        arrived<2>();
        begin_products();
#pragma unroll
        for (int step = 0; step < SLOTS / 16; ++step) {
            u64 rhs = described(values + buffer + step * (16 * LINE));
            VALUES(made, weights + 4 * step, rhs);
        }
        commit_products();
        wait_for_products<0>();
    }
    asm volatile("cp.async.wait_all;");
    __syncthreads();

#pragma unroll
    for (int half = 0; half < 2; ++half) {
        float whole = of_row(sum[half], false);
        sum[half] = whole > 0.0f ? 1.0f / whole : 0.0f;
    }
    // Through shared memory, so that whole lines are written. Rows are 16 bytes apart from a multiple of 128: no bank twice.
    constexpr u32 pitch = 2 * D + 16;
    u32 staged = shared + group * 64 * pitch;
    u32 own = staged + own_row * pitch + own_column * 2;
#pragma unroll
    for (int i = 0; i < D / 8; ++i) {
        stage(own + 16 * i, packed(made[4 * i] * sum[0], made[4 * i + 1] * sum[0]));
        stage(own + 8 * pitch + 16 * i, packed(made[4 * i + 2] * sum[1], made[4 * i + 3] * sum[1]));
    }
    __syncthreads();
#pragma unroll 4
    for (int i = thread; i < 64 * D / 8; i += 128) {
        int line = i / (D / 8), piece = i % (D / 8);
        int token = first + group * 64 + line;
        if (token < tokens) {
            u64 row = (u64)blockIdx.z * tokens + token;
            hand_over(out + (row * info.heads + head) * D + piece * 8, staged + line * pitch + piece * 16);
        }
    }
}
