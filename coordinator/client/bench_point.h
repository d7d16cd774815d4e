#ifndef KVEC_COORDINATOR_CLIENT_BENCH_POINT_H_
#define KVEC_COORDINATOR_CLIENT_BENCH_POINT_H_

#include <cstdint>
#include <string>

namespace kvec::coordinator::client {

enum class BenchPhase { kPrefill, kDecode };

// What is measured.
struct BenchPoint {
  BenchPhase phase = BenchPhase::kPrefill;
  uint32_t prompt_tokens = 1;
  uint32_t depth = 0;  // decode: tokens in the cache before the first decode step
  uint32_t batch = 1;  // concurrent requests
};

// What was measured: medians over the runs, unless said otherwise.
struct BenchResult {
  BenchPoint point;
  double tokens_per_second = 0;
  double min_tokens_per_second = 0;
  double max_tokens_per_second = 0;
  int runs = 0;
  uint64_t kv_bytes = 0;        // of all requests of the batch
  uint64_t peak_rss_bytes = 0;  // of all workers since their start
  double eviction_share = 0;    // of the prefill time
};

// "prefill 4096", "decode at 2048 x 8"
std::string Describe(const BenchPoint& point);

}  // namespace kvec::coordinator::client

#endif  // KVEC_COORDINATOR_CLIENT_BENCH_POINT_H_
