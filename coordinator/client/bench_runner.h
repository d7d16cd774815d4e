#ifndef KVEC_COORDINATOR_CLIENT_BENCH_RUNNER_H_
#define KVEC_COORDINATOR_CLIENT_BENCH_RUNNER_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/client/bench_point.h"
#include "coordinator/client/connection.h"
#include "kvec/v1/inference.pb.h"

namespace kvec::coordinator::client {

// Measures points through Generate, the way every request goes: greedy, on prompts of random token
// ids that differ from run to run, so that no cached prefix helps. Not thread-safe.
class BenchRunner {
 public:
  struct Options {
    uint32_t decode_tokens = 64;  // counted per stream
    int runs = 5;
    int warmup_runs = 1;
    uint64_t seed = 1;
    absl::Duration run_timeout = absl::Minutes(10);
    v1::CachePolicy cache;
  };

  // `connection` must outlive the runner. The model tells the vocabulary and the context length.
  BenchRunner(const Connection& connection, const v1::GetModelResponse& model,
              const Options& options);

  // Calls `on_run` after each run, warm-up runs included.
  absl::StatusOr<BenchResult> Measure(const BenchPoint& point, const std::function<void()>& on_run);

 private:
  struct Run {
    double tokens_per_second = 0;
    double kv_bytes = 0;
    double eviction_share = 0;
  };

  absl::StatusOr<Run> MeasureOnce(const BenchPoint& point);
  // Of all workers, as they last told it.
  absl::StatusOr<uint64_t> PeakRssBytes() const;
  v1::GenerateRequest RandomRequest(const BenchPoint& point);
  // max_tokens of a decode request: enough for all streams to overlap.
  uint32_t DecodeLength(const BenchPoint& point) const;

  const Connection& connection_;
  const uint32_t vocab_size_;
  const uint32_t context_length_;
  const Options options_;
  uint64_t num_requests_ = 0;  // made so far: each gets ids of its own
};

}  // namespace kvec::coordinator::client

#endif  // KVEC_COORDINATOR_CLIENT_BENCH_RUNNER_H_
