// out[b] = a[b] @ b[b] in bf16 with sums in f32, by the warpgroup products of Hopper (PTX ISA, wgmma). Around it stand what
// `source.rs` defines: WARPGROUPS, BN, STAGES, A_ALONG_M, B_ALONG_N and the instruction as WGMMA(d, a, b).
//
// A block makes a tile of BM x BN; every warpgroup 64 of its rows. Slices of 64 along the inner axis go round STAGES buffers:
// while one is multiplied, the next ones are on their way (cp.async, which writes zeros behind the edges).
//
// A factor that lies along the inner axis is kept as one line of shared memory a row; one that lies along its rows (A_ALONG_M,
// B_ALONG_N) in blocks of 64 rows, each a line for every step of the inner axis.

#define THREADS (128 * WARPGROUPS)
#define BM (64 * WARPGROUPS)
#define BK 64
#define A_BYTES (BM * LINE)
#define STAGE_BYTES (A_BYTES + BN * LINE)

// Sizes in elements. Batches are counted over two axes, the inner one of `inner`; a stride may be 0.
struct Info {
    u64 m, n, k, inner;
    u64 a_line, a_outer, a_inner;
    u64 b_line, b_outer, b_inner;
};

// Bytes of a piece of 8 elements of which `left` are there.
__device__ __forceinline__ int piece_bytes(int left) {
    return left <= 0 ? 0 : left >= 8 ? 16 : 2 * left;
}

// One factor's way into shared memory: ROWS of its rows from `row` on.
template <int ROWS, bool ALONG_ROWS> struct Loader {
    static constexpr int PIECES = ALONG_ROWS ? ROWS / 8 : BK / 8;
    static constexpr int LINES = ALONG_ROWS ? BK : ROWS;
    static constexpr int STEP = THREADS / PIECES;
    static constexpr int COPIES = LINES / STEP;

    const bf16* from;
    const bf16* start;
    u64 line_step;
    u64 slice_step;
    u32 to;
    int first;
    int left;
    int piece;

    __device__ __forceinline__ Loader(const bf16* base, u64 line, int row, int rows) {
        int own_line = threadIdx.x / PIECES;
        piece = threadIdx.x % PIECES;
        start = base;
        line_step = line * STEP;
        if (ALONG_ROWS) {
            from = base + own_line * line + row + piece * 8;
            slice_step = line * BK;
            to = (piece / 8) * BLOCK + own_line * LINE + (((piece % 8) ^ (own_line % 8)) << 4);
            first = own_line;
            left = piece_bytes(rows - row - piece * 8);
        } else {
            from = base + (row + own_line) * line + piece * 8;
            slice_step = BK;
            to = own_line * LINE + ((piece ^ (own_line % 8)) << 4);
            first = 0;
            left = rows - row - own_line;
        }
    }

    // The slice from `k` on, into the buffer at `shared`.
    __device__ __forceinline__ void load(u32 shared, int k, int depth) {
        int along = ALONG_ROWS ? left : piece_bytes(depth - k - piece * 8);
#pragma unroll
        for (int i = 0; i < COPIES; ++i) {
            bool there = ALONG_ROWS ? k + first + i * STEP < depth : i * STEP < left;
            int bytes = there ? along : 0;
            copy_piece(shared + to + i * STEP * LINE, bytes ? from + i * line_step : start, bytes);
        }
        from += slice_step;
    }
};

// From one step of 16 along the inner axis to the next.
#define A_STEP (A_ALONG_M ? 16 * LINE : 32)
#define B_STEP (B_ALONG_N ? 16 * LINE : 32)

extern "C" __global__ void __launch_bounds__(THREADS)
    product(const bf16* __restrict__ a, const bf16* __restrict__ b, bf16* __restrict__ out, const __grid_constant__ Info info) {
    extern __shared__ unsigned char memory[];
    u32 shared = ((u32)__cvta_generic_to_shared(memory) + 1023) & ~1023u;
    int m = info.m, n = info.n, k = info.k;
    int tiles = (m + BM - 1) / BM;
    int row = blockIdx.x % tiles * BM, column = blockIdx.x / tiles * BN;
    u64 outer = blockIdx.y / info.inner, inner = blockIdx.y % info.inner;
    int group = threadIdx.x / 128;

    Loader<BM, A_ALONG_M> left(a + outer * info.a_outer + inner * info.a_inner, info.a_line, row, m);
    Loader<BN, B_ALONG_N> right(b + outer * info.b_outer + inner * info.b_inner, info.b_line, column, n);
    int slices = (k + BK - 1) / BK;
    auto load = [&](int slice) {
        if (slice < slices) {
            u32 buffer = shared + slice % STAGES * STAGE_BYTES;
            left.load(buffer, slice * BK, k);
            right.load(buffer + A_BYTES, slice * BK, k);
        }
        commit_copies();
    };

    float sums[BN / 2];
#pragma unroll
    for (int i = 0; i < BN / 2; ++i) sums[i] = 0.0f;
#pragma unroll
    for (int slice = 0; slice < STAGES - 2; ++slice) load(slice);
    for (int slice = 0; slice < slices; ++slice) {
        // This slice has arrived and wgmma may see it; all warpgroups are done with the slice before the last, whose buffer is
        // filled again.
        arrived<STAGES - 3>();
        load(slice + STAGES - 2);
        u32 buffer = shared + slice % STAGES * STAGE_BYTES;
        u64 lhs = described(buffer + group * (A_ALONG_M ? BLOCK : 64 * LINE));
        u64 rhs = described(buffer + A_BYTES);
        begin_products();
#pragma unroll
        for (int step = 0; step < BK / 16; ++step) {
            WGMMA(sums, lhs + step * (A_STEP >> 4), rhs + step * (B_STEP >> 4));
        }
        commit_products();
        wait_for_products<1>();
    }
    wait_for_products<0>();
    __syncthreads();

    // Through shared memory, so that whole lines are written. Rows are 16 bytes apart from a multiple of 128: no bank twice.
    constexpr u32 pitch = 2 * BN + 16;
    u32 staged = shared + group * 64 * pitch;
    int thread = threadIdx.x % 128, lane = thread % 32;
    u32 own = staged + (thread / 32 * 16 + lane / 4) * pitch + lane % 4 * 4;
#pragma unroll
    for (int i = 0; i < BN / 8; ++i) {
        stage(own + 16 * i, packed(sums[4 * i], sums[4 * i + 1]));
        stage(own + 8 * pitch + 16 * i, packed(sums[4 * i + 2], sums[4 * i + 3]));
    }
    __syncthreads();
    out += (u64)blockIdx.y * m * n;
#pragma unroll 4
    for (int i = thread; i < 64 * BN / 8; i += 128) {
        int line = i / (BN / 8), piece = i % (BN / 8);
        int to_row = row + group * 64 + line, to_column = column + piece * 8;
        if (to_row < m && to_column < n) {
            hand_over(out + (u64)to_row * n + to_column, staged + line * pitch + piece * 16);
        }
    }
}
