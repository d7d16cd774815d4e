// The rotation of keys and queries in int8 arenas: see cpu_kv_arena.h. Included once per
// instruction set by files that use hwy/foreach_target.h, hence no ordinary include guard.
#if defined(KVEC_KERNELS_CPU_HADAMARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KVEC_KERNELS_CPU_HADAMARD_INL_H_
#undef KVEC_KERNELS_CPU_HADAMARD_INL_H_
#else
#define KVEC_KERNELS_CPU_HADAMARD_INL_H_
#endif

#include <cmath>
#include <cstddef>
#include <utility>

#include "hwy/highway.h"
#include "kernels/cpu/cpu_kv_arena.h"

HWY_BEFORE_NAMESPACE();
namespace kvec::kernels::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// to[size] = the Walsh-Hadamard transform of from[size], not normalised, by stages that all read
// neighbours and write sums to the first half, differences to the second: no stage needs shuffles
// of its own, and after all of them the order is the natural one. size: a power of 2; lanes of d: at
// most size / 2. `from` is overwritten.
template <class D>
HWY_INLINE void TransformBlock(D d, size_t size, float* from, float* to) {
  for (size_t stage = 1; stage < size; stage *= 2) {
    for (size_t i = 0; i < size / 2; i += hn::Lanes(d)) {
      hn::Vec<D> even;
      hn::Vec<D> odd;
      hn::LoadInterleaved2(d, from + 2 * i, even, odd);
      hn::StoreU(hn::Add(even, odd), d, to + i);
      hn::StoreU(hn::Sub(even, odd), d, to + size / 2 + i);
    }
    std::swap(from, to);
  }
}

// to[head_dim] = scale · H · from[head_dim], where the blocks of H on the diagonal are orthonormal
// Hadamard matrices, as large as a power of 2 that divides head_dim can be; head_dim is a multiple
// of 8. `to` may be `from`.
HWY_INLINE void RotateHead(const float* from, size_t head_dim, float scale, float* to) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 4> d4;
  const size_t size = head_dim & (~head_dim + 1);
  const auto factor = hn::Set(d4, scale / std::sqrt(static_cast<float>(size)));
  float buffers[2][CpuKvArena::kMaxHeadDim];
  size_t num_stages = 0;
  while (size_t{1} << num_stages < size) ++num_stages;
  for (size_t begin = 0; begin < head_dim; begin += size) {
    for (size_t i = 0; i < size; ++i) buffers[0][i] = from[begin + i];
    if (size / 2 >= hn::Lanes(d)) {
      TransformBlock(d, size, buffers[0], buffers[1]);
    } else {
      TransformBlock(d4, size, buffers[0], buffers[1]);
    }
    const float* result = buffers[num_stages % 2];
    for (size_t i = 0; i < size; i += hn::Lanes(d4)) {
      hn::StoreU(hn::Mul(hn::LoadU(d4, result + i), factor), d4, to + begin + i);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kvec::kernels::cpu
HWY_AFTER_NAMESPACE();

#endif  // KVEC_KERNELS_CPU_HADAMARD_INL_H_
