#include "kernels/cpu/value_norms.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/value_norms.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/int8_number-inl.h"
#include "kernels/cpu/kv_number-inl.h"
#include "kernels/cpu/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvec::kernels::cpu {
namespace HWY_NAMESPACE {

HWY_INLINE void NormsOfInt8Page(const CpuKvArena& arena, int32_t page, int count, float* norms) {
  const hn::CappedTag<float, 8> d;
  const size_t head_dim = static_cast<size_t>(arena.spec().head_dim);
  for (int token = 0; token < count; token += 2) {
    const uint8_t* values = arena.values(page) + static_cast<size_t>(token) * head_dim;
    auto first_squares = hn::Zero(d);
    auto second_squares = hn::Zero(d);
    for (size_t i = 0; i < head_dim; i += hn::Lanes(d)) {
      hn::Vec<decltype(d)> first;
      hn::Vec<decltype(d)> second;
      LoadPairs(d, values + 2 * i, first, second);
      first_squares = hn::MulAdd(first, first, first_squares);
      second_squares = hn::MulAdd(second, second, second_squares);
    }
    const uint16_t* scales = arena.value_scales(page) + token;
    norms[token] = std::sqrt(ReduceSum(d, first_squares)) * HalfToFloat(scales[0]);
    if (token + 1 == count) return;
    norms[token + 1] = std::sqrt(ReduceSum(d, second_squares)) * HalfToFloat(scales[1]);
  }
}

// norms[count] of the values of a page.
void NormsOfPage(const CpuKvArena& arena, int32_t page, int count, float* norms) {
  if (arena.spec().type == KvType::kInt8) return NormsOfInt8Page(arena, page, count, norms);
  const hn::CappedTag<float, 8> d;  // head_dim is a multiple of 8
  const size_t head_dim = static_cast<size_t>(arena.spec().head_dim);
  WithKvNumber(arena.spec().type, [&](auto number) HWY_ATTR {
    using Number = decltype(number);
    const auto* values = reinterpret_cast<const typename Number::Stored*>(arena.values(page));
    for (int token = 0; token < count; ++token, values += head_dim) {
      auto squares = hn::Zero(d);
      for (size_t i = 0; i < head_dim; i += hn::Lanes(d)) {
        const auto value = Number::Load(d, values + i);
        squares = hn::MulAdd(value, value, squares);
      }
      norms[token] = std::sqrt(ReduceSum(d, squares));
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace kvec::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvec::kernels::cpu {

HWY_EXPORT(NormsOfPage);

void ValueNorms(ThreadPool& pool, absl::Span<const HeadPages> heads, int stride,
                const CpuKvArena& arena, float* norms) {
  pool.ParallelFor(static_cast<int>(heads.size()), [&](int index) {
    const HeadPages& head = heads[static_cast<size_t>(index)];
    float* to = norms + static_cast<size_t>(index) * static_cast<size_t>(stride);
    for (int begin = 0; begin < head.num_entries; begin += kPageTokens) {
      HWY_DYNAMIC_DISPATCH(NormsOfPage)
      (arena, head.pages[begin / kPageTokens], std::min(kPageTokens, head.num_entries - begin),
       to + begin);
    }
  });
}

}  // namespace kvec::kernels::cpu
#endif  // HWY_ONCE
