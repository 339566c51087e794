// What the kernels in CUDA C++ share: copies into shared memory, and products of what lies there (PTX ISA, cp.async and wgmma).
//
// Shared memory is in the 128-byte swizzle that wgmma reads: pieces of 16 bytes, whose number within a line of 128 bytes is
// xored with the line's number, modulo 8.

typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned short bf16;

#define LINE 128
// 64 lines: what one instruction reads of a factor along its rows.
#define BLOCK (64 * LINE)

__device__ __forceinline__ void copy_piece(u32 to, const bf16* from, int bytes) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes));
}

__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;"); }

// All copies but those of the last PENDING groups have arrived, of all threads, and wgmma may see them.
template <int PENDING> __device__ __forceinline__ void arrived() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING));
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
}

// What wgmma is told of a factor in shared memory: address, distances between blocks and between groups of 8 lines, swizzle.
__device__ __forceinline__ u64 described(u32 address) {
    return (u64)((address & 0x3ffff) >> 4) | (u64)(BLOCK >> 4) << 16 | (u64)(8 * LINE >> 4) << 32 | 1ull << 62;
}

__device__ __forceinline__ void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

__device__ __forceinline__ void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

template <int PENDING> __device__ __forceinline__ void wait_for_products() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

__device__ __forceinline__ u32 packed(float low, float high) {
    u32 both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}

__device__ __forceinline__ void stage(u32 to, u32 value) { asm volatile("st.shared.b32 [%0], %1;" ::"r"(to), "r"(value) : "memory"); }

// 16 bytes from shared memory to the device's.
__device__ __forceinline__ void hand_over(bf16* to, u32 from) {
    u32 x, y, z, w;
    asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];" : "=r"(x), "=r"(y), "=r"(z), "=r"(w) : "r"(from));
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(x), "r"(y), "r"(z), "r"(w) : "memory");
}

