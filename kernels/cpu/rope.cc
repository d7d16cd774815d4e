#include "kernels/cpu/rope.h"

#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/cpu/parallel_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rope.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/rms_norm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvec::kernels::cpu {
namespace HWY_NAMESPACE {

// Rotates (first[i], second[i]) for i < half.
HWY_INLINE void RotateHalves(float* first, const float* cosines, const float* sines, size_t half) {
  const hn::ScalableTag<float> d;
  float* second = first + half;
  for (size_t i = 0; i < half; i += hn::Lanes(d)) {
    const size_t count = half - i;
    const auto x = LoadFirst(d, first + i, count);
    const auto y = LoadFirst(d, second + i, count);
    const auto cosine = LoadFirst(d, cosines + i, count);
    const auto sine = LoadFirst(d, sines + i, count);
    StoreFirst(d, hn::NegMulAdd(y, sine, hn::Mul(x, cosine)), first + i, count);
    StoreFirst(d, hn::MulAdd(x, sine, hn::Mul(y, cosine)), second + i, count);
  }
}

// Rotates (head[2 i], head[2 i + 1]) for i < half.
HWY_INLINE void RotateInterleaved(float* head, const float* cosines, const float* sines,
                                  size_t half) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  for (; i + lanes <= half; i += lanes) {
    hn::Vec<decltype(d)> x, y;
    hn::LoadInterleaved2(d, head + 2 * i, x, y);
    const auto cosine = hn::LoadU(d, cosines + i);
    const auto sine = hn::LoadU(d, sines + i);
    hn::StoreInterleaved2(hn::NegMulAdd(y, sine, hn::Mul(x, cosine)),
                          hn::MulAdd(x, sine, hn::Mul(y, cosine)), d, head + 2 * i);
  }
  for (; i < half; ++i) {
    const float x = head[2 * i];
    const float y = head[2 * i + 1];
    head[2 * i] = x * cosines[i] - y * sines[i];
    head[2 * i + 1] = y * cosines[i] + x * sines[i];
  }
}

void NormAndRotateRows(Tensor qkv, const HeadShape& shape, const QkNorm& norm, Tensor angles,
                       RopePairing pairing) {
  const size_t half = static_cast<size_t>(shape.head_dim) / 2;
  for (int row = 0; row < qkv.rows; ++row) {
    const float* cosines = angles.data + row * angles.stride;
    const float* sines = cosines + half;
    for (int index = 0; index < shape.num_heads + shape.num_kv_heads; ++index) {
      float* head = qkv.data + row * qkv.stride + static_cast<int64_t>(index) * shape.head_dim;
      const float* weight = index < shape.num_heads ? norm.q_weight : norm.k_weight;
      if (weight != nullptr) {
        ScaleByWeight(head, InverseRms(head, shape.head_dim, norm.eps), weight, shape.head_dim,
                      head);
      }
      if (pairing == RopePairing::kHalves) {
        RotateHalves(head, cosines, sines, half);
      } else {
        RotateInterleaved(head, cosines, sines, half);
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kvec::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvec::kernels::cpu {
namespace {

HWY_EXPORT(NormAndRotateRows);

// Radians per position of every rotated pair.
std::vector<double> Frequencies(const RopeConfig& rope, size_t half) {
  std::vector<double> frequencies(half);
  for (size_t i = 0; i < half; ++i) {
    const double exponent = -static_cast<double>(i) / static_cast<double>(half);
    frequencies[i] = std::pow(static_cast<double>(rope.theta), exponent);
    if (!rope.frequency_factors.empty()) frequencies[i] /= rope.frequency_factors[i];
  }
  return frequencies;
}

}  // namespace

absl::Status RopeAngles(ThreadPool& pool, absl::Span<const int32_t> positions,
                        const RopeConfig& rope, Tensor out) {
  const size_t half = static_cast<size_t>(out.cols) / 2;
  if (out.cols % 2 != 0 || positions.size() != static_cast<size_t>(out.rows) ||
      (!rope.frequency_factors.empty() && rope.frequency_factors.size() != half)) {
    return absl::InternalError(absl::StrCat(
        "rope_angles: ", positions.size(), " positions and ", rope.frequency_factors.size(),
        " frequency factors for [", out.rows, ", ", out.cols, "]"));
  }
  const std::vector<double> frequencies = Frequencies(rope, half);
  ParallelRows(pool, out.rows, [&](int begin, int end) {
    for (int row = begin; row < end; ++row) {
      float* cosines = out.data + row * out.stride;
      for (size_t i = 0; i < half; ++i) {
        const double angle = positions[static_cast<size_t>(row)] * frequencies[i];
        cosines[i] = static_cast<float>(std::cos(angle));
        cosines[half + i] = static_cast<float>(std::sin(angle));
      }
    }
  });
  return absl::OkStatus();
}

absl::Status NormAndRotate(ThreadPool& pool, Tensor qkv, const HeadShape& shape, const QkNorm& norm,
                           Tensor angles, RopePairing pairing) {
  if (qkv.cols != shape.qkv_cols() || angles.cols != shape.head_dim || angles.rows != qkv.rows ||
      shape.head_dim % 2 != 0) {
    return absl::InternalError(absl::StrCat("norm_and_rotate: qkv [", qkv.rows, ", ", qkv.cols,
                                            "], angles [", angles.rows, ", ", angles.cols,
                                            "], head_dim ", shape.head_dim));
  }
  ParallelRows(pool, qkv.rows, [&](int begin, int end) {
    HWY_DYNAMIC_DISPATCH(NormAndRotateRows)
    (qkv.Rows(begin, end - begin), shape, norm, angles.Rows(begin, end - begin), pairing);
  });
  return absl::OkStatus();
}

}  // namespace kvec::kernels::cpu
#endif  // HWY_ONCE
