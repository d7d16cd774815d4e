#include "kernels/cpu/rms_norm.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "kernels/cpu/parallel_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rms_norm.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/rms_norm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvec::kernels::cpu {
namespace HWY_NAMESPACE {

void NormRows(Tensor x, const float* weight, float eps, Tensor out) {
  for (int row = 0; row < x.rows; ++row) {
    const float* from = x.data + row * x.stride;
    const float scale = InverseRms(from, x.cols, eps);
    ScaleByWeight(from, scale, weight, x.cols, out.data + row * out.stride);
  }
}

void AddNormRows(Tensor y, const float* weight, float eps, Tensor x) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  const size_t cols = static_cast<size_t>(y.cols);
  for (int row = 0; row < y.rows; ++row) {
    const float* from = y.data + row * y.stride;
    float* to = x.data + row * x.stride;
    const auto scale = hn::Set(d, InverseRms(from, y.cols, eps));
    for (size_t i = 0; i < cols; i += lanes) {
      const size_t count = cols - i;
      const auto normed =
          hn::Mul(hn::Mul(LoadFirst(d, from + i, count), scale), LoadFirst(d, weight + i, count));
      StoreFirst(d, hn::Add(LoadFirst(d, to + i, count), normed), to + i, count);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kvec::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvec::kernels::cpu {
namespace {

HWY_EXPORT(NormRows);
HWY_EXPORT(AddNormRows);

absl::Status CheckSameShape(Tensor a, Tensor b) {
  if (a.rows == b.rows && a.cols == b.cols) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("rms_norm: shapes differ: [", a.rows, ", ", a.cols,
                                          "] and [", b.rows, ", ", b.cols, "]"));
}

}  // namespace

absl::Status RmsNorm(ThreadPool& pool, Tensor x, const float* weight, float eps, Tensor out) {
  if (absl::Status status = CheckSameShape(x, out); !status.ok()) return status;
  ParallelRows(pool, x.rows, [&](int begin, int end) {
    HWY_DYNAMIC_DISPATCH(NormRows)
    (x.Rows(begin, end - begin), weight, eps, out.Rows(begin, end - begin));
  });
  return absl::OkStatus();
}

absl::Status AddRmsNorm(ThreadPool& pool, Tensor y, const float* weight, float eps, Tensor x) {
  if (absl::Status status = CheckSameShape(y, x); !status.ok()) return status;
  ParallelRows(pool, y.rows, [&](int begin, int end) {
    HWY_DYNAMIC_DISPATCH(AddNormRows)
    (y.Rows(begin, end - begin), weight, eps, x.Rows(begin, end - begin));
  });
  return absl::OkStatus();
}

}  // namespace kvec::kernels::cpu
#endif  // HWY_ONCE
