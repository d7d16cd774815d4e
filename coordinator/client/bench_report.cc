#include "coordinator/client/bench_report.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "coordinator/client/text_table.h"
#include "nlohmann/json.hpp"

namespace kvec::coordinator::client {
namespace {

using Json = nlohmann::ordered_json;

const char* PhaseName(BenchPhase phase) {
  return phase == BenchPhase::kPrefill ? "prefill" : "decode";
}

Json BudgetJson(const v1::CachePolicy& cache) {
  switch (cache.budget_case()) {
    case v1::CachePolicy::kBudgetTokens:
      return cache.budget_tokens();
    case v1::CachePolicy::kBudgetShare:
      return cache.budget_share();
    default:
      return nullptr;
  }
}

}  // namespace

std::string Describe(const BenchPoint& point) {
  if (point.phase == BenchPhase::kPrefill) return absl::StrCat("prefill ", point.prompt_tokens);
  return absl::StrCat("decode at ", point.depth, " x ", point.batch);
}

std::string BenchTable(const std::vector<BenchResult>& results, const v1::CachePolicy& cache) {
  std::vector<std::vector<std::string>> rows = {{"phase", "prompt", "depth", "batch", "tokens/s",
                                                 "min", "max", "KV cache", "peak memory",
                                                 "eviction"}};
  for (const BenchResult& result : results) {
    rows.push_back({PhaseName(result.point.phase), absl::StrCat(result.point.prompt_tokens),
                    absl::StrCat(result.point.depth), absl::StrCat(result.point.batch),
                    absl::StrFormat("%.1f", result.tokens_per_second),
                    absl::StrFormat("%.1f", result.min_tokens_per_second),
                    absl::StrFormat("%.1f", result.max_tokens_per_second),
                    FormatBytes(result.kv_bytes), FormatBytes(result.peak_rss_bytes),
                    absl::StrFormat("%.1f %%", 100 * result.eviction_share)});
  }
  const int runs = results.empty() ? 0 : results.front().runs;
  return absl::StrCat(FormatTable(rows), "medians of ", runs, " runs, policy ", cache.policy(),
                      "\n");
}

std::string BenchJson(const BenchResult& result, const v1::CachePolicy& cache) {
  const Json point = {{"phase", PhaseName(result.point.phase)},
                      {"prompt_tokens", result.point.prompt_tokens},
                      {"depth", result.point.depth},
                      {"batch", result.point.batch},
                      {"policy", cache.policy()},
                      {"budget", BudgetJson(cache)},
                      {"tokens_per_second", result.tokens_per_second},
                      {"min", result.min_tokens_per_second},
                      {"max", result.max_tokens_per_second},
                      {"runs", result.runs},
                      {"kv_bytes", result.kv_bytes},
                      {"peak_rss_bytes", result.peak_rss_bytes},
                      {"eviction_share", result.eviction_share}};
  return point.dump();
}

}  // namespace kvec::coordinator::client
