#ifndef KVEC_TESTS_KERNELS_CPU_SAMPLING_REFERENCE_H_
#define KVEC_TESTS_KERNELS_CPU_SAMPLING_REFERENCE_H_

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/sampling.h"
#include "tests/kernels/cpu/random_matrix.h"

namespace kvec::kernels::cpu {

// The probability of every token, step by step as kernels/sampling.h has it, in double precision.
inline std::vector<double> Probabilities(const Matrix& logits, const SampleRequest& request) {
  const size_t vocab = static_cast<size_t>(logits.cols());
  std::vector<double> z(vocab);
  for (size_t i = 0; i < vocab; ++i) z[i] = logits.at(request.row, static_cast<int>(i));
  for (int32_t token : request.banned) z[static_cast<size_t>(token)] = -INFINITY;
  for (const auto& [token, bias] : request.logit_bias) z[static_cast<size_t>(token)] += bias;
  for (const TokenCount& count : request.counts) {
    double& logit = z[static_cast<size_t>(count.token)];
    const double penalty = request.repetition_penalty;
    if (count.in_prompt + count.generated > 0)
      logit = logit > 0 ? logit / penalty : logit * penalty;
    logit -= double{request.frequency_penalty} * count.generated;
    logit -= double{request.presence_penalty} * (count.generated > 0);
  }
  const double max = *std::max_element(z.begin(), z.end());
  std::vector<double> p(vocab);
  for (size_t i = 0; i < vocab; ++i) p[i] = std::exp((z[i] - max) / request.temperature);
  std::vector<size_t> order(vocab);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] > p[b]; });
  if (request.top_k > 0) {
    for (size_t i = static_cast<size_t>(request.top_k); i < vocab; ++i) p[order[i]] = 0;
  }
  const double total = std::accumulate(p.begin(), p.end(), 0.0);
  double before = 0;
  for (size_t i : order) {
    const double own = p[i];
    if (before >= request.top_p * total) p[i] = 0;
    before += own;
  }
  for (double& value : p) value = value < request.min_p ? 0 : value;
  const double kept = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& value : p) value /= kept;
  return p;
}

}  // namespace kvec::kernels::cpu

#endif  // KVEC_TESTS_KERNELS_CPU_SAMPLING_REFERENCE_H_
