#ifndef KVEC_KERNELS_CPU_LOGIT_SCAN_H_
#define KVEC_KERNELS_CPU_LOGIT_SCAN_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

// Vectorised passes over one row of logits [vocab].
namespace kvec::kernels::cpu {

struct ScoredToken {
  int32_t token;
  float score;
};

// Falling scores; ties: the lower token id.
inline bool RanksBefore(const ScoredToken& a, const ScoredToken& b) {
  return a.score != b.score ? a.score > b.score : a.token < b.token;
}

// The largest; NaN when any of them is.
float MaxLogit(absl::Span<const float> logits);

// The lowest token id whose logit equals `value`, which is one of them.
int32_t FirstToken(absl::Span<const float> logits, float value);

// Tokens that are summed on their own: a draw finds its stretch before it looks at single tokens.
inline constexpr int kStretchTokens = 1024;

// weights[i] = 2^((logits[i] - max) · scale). Returns the sum over every stretch of kStretchTokens.
void ComputeWeights(absl::Span<const float> logits, float max, float scale,
                    absl::Span<float> weights, std::vector<double>& stretch_sums);

// log Σ exp(logits), max being the largest of them.
float LogSumExp(absl::Span<const float> logits, float max);

// Appends all tokens with scores >= threshold, in ascending order of their ids.
void CollectAtLeast(absl::Span<const float> scores, float threshold,
                    std::vector<ScoredToken>& tokens);

// The `count` tokens that rank first, all of them if they are fewer; in order of rank.
void CollectTop(absl::Span<const float> scores, int count, std::vector<ScoredToken>& tokens);

}  // namespace kvec::kernels::cpu

#endif  // KVEC_KERNELS_CPU_LOGIT_SCAN_H_
