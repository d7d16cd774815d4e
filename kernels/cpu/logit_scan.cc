#include "kernels/cpu/logit_scan.h"

#include <algorithm>
#include <cmath>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/logit_scan.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvec::kernels::cpu {
namespace HWY_NAMESPACE {

float MaxOfRow(const float* logits, size_t size) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  auto max = hn::Set(d, -std::numeric_limits<float>::infinity());
  auto nan = hn::Zero(d);  // becomes NaN with the first NaN and stays it
  size_t i = 0;
  for (; i + lanes <= size; i += lanes) {
    const auto x = hn::LoadU(d, logits + i);
    max = hn::Max(max, x);
    nan = hn::IfThenElse(hn::IsNaN(x), x, nan);
  }
  float result =
      std::isnan(ReduceSum(d, nan)) ? std::numeric_limits<float>::quiet_NaN() : ReduceMax(d, max);
  for (; i < size; ++i) {
    if (!(logits[i] <= result)) result = std::isnan(result) ? result : logits[i];
  }
  return result;
}

size_t FindFirstEqual(const float* logits, size_t size, float value) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  const auto values = hn::Set(d, value);
  size_t i = 0;
  for (; i + lanes <= size; i += lanes) {
    const intptr_t lane = hn::FindFirstTrue(d, hn::Eq(hn::LoadU(d, logits + i), values));
    if (lane >= 0) return i + static_cast<size_t>(lane);
  }
  while (i < size && logits[i] != value) ++i;
  return i;
}

// Returns the sum of the weights of at most kStretchTokens.
float WeighStretch(const float* logits, size_t size, float max, float scale, float* weights) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  const auto maxima = hn::Set(d, max);
  const auto scales = hn::Set(d, scale);
  auto sums = hn::Zero(d);
  for (size_t i = 0; i < size; i += lanes) {
    const size_t count = std::min(lanes, size - i);
    const auto exponent = hn::Mul(hn::Sub(LoadFirst(d, logits + i, count), maxima), scales);
    const auto weight = hn::IfThenElseZero(hn::FirstN(d, count), Exp2(d, exponent));
    if (weights != nullptr) StoreFirst(d, weight, weights + i, count);
    sums = hn::Add(sums, weight);
  }
  return ReduceSum(d, sums);
}

// The first index from `begin` whose score is >= threshold, up to a register too early; size if
// none.
size_t SkipBelow(const float* scores, size_t begin, size_t size, float threshold) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  const auto thresholds = hn::Set(d, threshold);
  size_t i = begin;
  for (; i + lanes <= size; i += lanes) {
    if (!hn::AllFalse(d, hn::Ge(hn::LoadU(d, scores + i), thresholds))) return i;
  }
  return i;
}

}  // namespace HWY_NAMESPACE
}  // namespace kvec::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvec::kernels::cpu {
namespace {

HWY_EXPORT(MaxOfRow);
HWY_EXPORT(FindFirstEqual);
HWY_EXPORT(WeighStretch);
HWY_EXPORT(SkipBelow);

constexpr size_t kLooseTokens = 16;  // looked at one by one before skipping again

}  // namespace

float MaxLogit(absl::Span<const float> logits) {
  return HWY_DYNAMIC_DISPATCH(MaxOfRow)(logits.data(), logits.size());
}

int32_t FirstToken(absl::Span<const float> logits, float value) {
  return static_cast<int32_t>(
      HWY_DYNAMIC_DISPATCH(FindFirstEqual)(logits.data(), logits.size(), value));
}

void ComputeWeights(absl::Span<const float> logits, float max, float scale,
                    absl::Span<float> weights, std::vector<double>& stretch_sums) {
  stretch_sums.clear();
  for (size_t begin = 0; begin < logits.size(); begin += kStretchTokens) {
    const size_t size = std::min<size_t>(kStretchTokens, logits.size() - begin);
    stretch_sums.push_back(HWY_DYNAMIC_DISPATCH(WeighStretch)(logits.data() + begin, size, max,
                                                              scale, weights.data() + begin));
  }
}

float LogSumExp(absl::Span<const float> logits, float max) {
  constexpr float kLog2E = 1.4426950408889634f;
  double sum = 0;
  for (size_t begin = 0; begin < logits.size(); begin += kStretchTokens) {
    const size_t size = std::min<size_t>(kStretchTokens, logits.size() - begin);
    sum += HWY_DYNAMIC_DISPATCH(WeighStretch)(logits.data() + begin, size, max, kLog2E, nullptr);
  }
  return static_cast<float>(max + std::log(sum));
}

void CollectAtLeast(absl::Span<const float> scores, float threshold,
                    std::vector<ScoredToken>& tokens) {
  tokens.clear();
  for (size_t i = 0; i < scores.size();) {
    i = HWY_DYNAMIC_DISPATCH(SkipBelow)(scores.data(), i, scores.size(), threshold);
    for (const size_t end = std::min(scores.size(), i + kLooseTokens); i < end; ++i) {
      if (scores[i] >= threshold) tokens.push_back({static_cast<int32_t>(i), scores[i]});
    }
  }
}

void CollectTop(absl::Span<const float> scores, int count, std::vector<ScoredToken>& tokens) {
  tokens.clear();
  const size_t wanted = std::min(scores.size(), static_cast<size_t>(std::max(count, 0)));
  if (wanted == 0) return;
  // Tokens that beat the wanted best so far are gathered, and cut down to the best again whenever
  // as many more have come. Later tokens lose ties, so nothing equal to the threshold is needed.
  const size_t capacity = std::min(scores.size(), 2 * wanted + 64);
  float threshold = -std::numeric_limits<float>::infinity();
  bool is_full = false;
  for (size_t i = 0; i < scores.size();) {
    i = HWY_DYNAMIC_DISPATCH(SkipBelow)(scores.data(), i, scores.size(), threshold);
    for (const size_t end = std::min(scores.size(), i + kLooseTokens); i < end; ++i) {
      if (is_full && scores[i] <= threshold) continue;
      tokens.push_back({static_cast<int32_t>(i), scores[i]});
      if (tokens.size() < capacity || tokens.size() == wanted) continue;
      std::nth_element(tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(wanted) - 1,
                       tokens.end(), RanksBefore);
      tokens.resize(wanted);
      threshold = tokens.back().score;
      is_full = true;
    }
  }
  std::sort(tokens.begin(), tokens.end(), RanksBefore);
  tokens.resize(wanted);
}

}  // namespace kvec::kernels::cpu
#endif  // HWY_ONCE
