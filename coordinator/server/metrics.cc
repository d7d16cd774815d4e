#include "coordinator/server/metrics.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "prometheus/metric_family.h"

namespace kvec::coordinator::server {
namespace {

using Buckets = prometheus::Histogram::BucketBoundaries;

const Buckets kRequestBuckets = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
                                 1,     2.5,   5,    7.5,  10,   20,   40,   80,  160,  640, 2560};
const Buckets kTokenBuckets = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2,
                               0.3,   0.4,    0.5,   0.75, 1,     2.5,  5,     7.5, 10};

const Buckets kEvictionBuckets = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                  0.1,    0.25,  0.5,    1,     2.5,  5};
const Buckets kByteBuckets = {1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 22,
                              1 << 24, 1 << 26, 1 << 28, 1 << 30};
const Buckets kShareBuckets = {0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1};

prometheus::Histogram& AddHistogram(prometheus::Registry& registry, const std::string& name,
                                    const std::string& help, const Buckets& buckets) {
  return prometheus::BuildHistogram().Name(name).Help(help).Register(registry).Add({}, buckets);
}

prometheus::MetricFamily Single(prometheus::MetricType type, std::string name, std::string help,
                                double value) {
  prometheus::ClientMetric metric;
  if (type == prometheus::MetricType::Counter) {
    metric.counter.value = value;
  } else {
    metric.gauge.value = value;
  }
  return {std::move(name), std::move(help), type, {std::move(metric)}};
}

// Pages of each worker by who has them; the states add up to all.
prometheus::MetricFamily PagesByState(prometheus::MetricType type, std::string name,
                                      std::string help,
                                      const std::vector<v1::WorkerStatus>& workers) {
  prometheus::MetricFamily family{std::move(name), std::move(help), type, {}};
  for (const v1::WorkerStatus& worker : workers) {
    const std::pair<const char*, uint64_t> states[] = {
        {"used", worker.total_pages() - worker.free_pages()},
        {"cached", std::min(worker.cached_pages(), worker.free_pages())},
        {"free", worker.free_pages() - std::min(worker.cached_pages(), worker.free_pages())}};
    for (const auto& [state, pages] : states) {
      prometheus::ClientMetric& metric = family.metric.emplace_back();
      metric.label = {{"stage", std::to_string(worker.stage())},
                      {"rank", std::to_string(worker.rank())},
                      {"state", state}};
      metric.gauge.value = static_cast<double>(pages);
    }
  }
  return family;
}

prometheus::MetricFamily ByListener(prometheus::MetricType type, std::string name, std::string help,
                                    const std::map<std::string, absl::Time>& times) {
  prometheus::MetricFamily family{std::move(name), std::move(help), type, {}};
  for (const auto& [listener, time] : times) {
    prometheus::ClientMetric& metric = family.metric.emplace_back();
    metric.label = {{"listener", listener}};
    metric.gauge.value = static_cast<double>(absl::ToUnixSeconds(time));
  }
  return family;
}

// FINISH_REASON_STOP → "stop".
std::string ReasonLabel(v1::FinishReason reason) {
  constexpr size_t kPrefix = sizeof("FINISH_REASON_") - 1;
  return absl::AsciiStrToLower(v1::FinishReason_Name(reason).substr(kPrefix));
}

}  // namespace

Metrics::Metrics(std::function<Snapshot()> snapshot)
    : snapshot_(std::move(snapshot)),
      request_success_(prometheus::BuildCounter()
                           .Name("kvec_request_success_total")
                           .Help("Choices that finished, by reason")
                           .Register(registry_)),
      request_failure_(prometheus::BuildCounter()
                           .Name("kvec_request_failure_total")
                           .Help("Accepted requests that ended early, by status code")
                           .Register(registry_)),
      queue_time_(AddHistogram(registry_, "kvec_request_queue_time_seconds",
                               "From a request's arrival to its first Step", kRequestBuckets)),
      time_to_first_token_(AddHistogram(registry_, "kvec_time_to_first_token_seconds",
                                        "From a request's arrival to its first token",
                                        kRequestBuckets)),
      time_per_output_token_(AddHistogram(registry_, "kvec_time_per_output_token_seconds",
                                          "Between two tokens of a choice", kTokenBuckets)),
      logical_bytes_(AddHistogram(registry_, "kvec_request_kv_logical_bytes",
                                  "Of a request's cache entries at its end", kByteBuckets)),
      physical_bytes_(AddHistogram(registry_, "kvec_request_kv_physical_bytes",
                                   "Of the pages that hold a request's cache at its end",
                                   kByteBuckets)),
      fragmentation_(AddHistogram(registry_, "kvec_request_kv_fragmentation_perc",
                                  "Share of a request's page bytes that hold no entry, 0 to 1",
                                  kShareBuckets)),
      eviction_time_(AddHistogram(registry_, "kvec_eviction_time_seconds",
                                  "Scores, selection and compaction of one prompt's cache",
                                  kEvictionBuckets)),
      coverage_(AddHistogram(registry_, "kvec_cache_coverage_perc",
                             "Share of an evicted prompt's tokens that some head of some layer "
                             "kept, 0 to 1",
                             kShareBuckets)),
      attention_mass_kept_(AddHistogram(registry_, "kvec_attention_mass_kept_perc",
                                        "Share of the observation window's attention on what an "
                                        "eviction kept, mean over layers, 0 to 1",
                                        kShareBuckets)),
      evicted_tokens_(prometheus::BuildCounter()
                          .Name("kvec_evicted_tokens_total")
                          .Help("Prompt tokens evicted, mean over heads and layers")
                          .Register(registry_)
                          .Add({})),
      steps_(registry_) {}

void Metrics::OnRequestDone(const absl::Status& status, const v1::Usage& usage) {
  if (!status.ok()) {
    request_failure_.Add({{"code", absl::StatusCodeToString(status.code())}}).Increment();
  }
  if (usage.layers_size() > 0) ObserveEviction(usage);
  if (usage.completion_tokens() == 0) return;
  queue_time_.Observe(usage.queue_ms() / 1000);
  time_to_first_token_.Observe(usage.time_to_first_token_ms() / 1000);
  if (usage.kv_bytes() > 0) ObserveMemory(usage);
  for (float ms : usage.inter_token_ms()) time_per_output_token_.Observe(ms / 1000);
}

void Metrics::ObserveEviction(const v1::Usage& usage) {
  eviction_time_.Observe(usage.eviction_ms() / 1000);
  coverage_.Observe(usage.coverage());
  evicted_tokens_.Increment(usage.evicted_tokens());
  double mass = 0;
  for (const v1::LayerCacheUsage& layer : usage.layers()) mass += layer.attention_mass();
  attention_mass_kept_.Observe(mass / usage.layers_size());
}

void Metrics::ObserveMemory(const v1::Usage& usage) {
  const auto logical = static_cast<double>(usage.logical_kv_bytes());
  const auto physical = static_cast<double>(usage.kv_bytes());
  logical_bytes_.Observe(logical);
  physical_bytes_.Observe(physical);
  fragmentation_.Observe(1 - logical / physical);
}

void Metrics::OnChoiceFinished(v1::FinishReason reason) {
  request_success_.Add({{"finished_reason", ReasonLabel(reason)}}).Increment();
}

std::vector<prometheus::MetricFamily> Metrics::Collect() const {
  using prometheus::MetricType;
  std::vector<prometheus::MetricFamily> families = registry_.Collect();
  const Snapshot snapshot = snapshot_();
  const scheduler::SchedulerCounts& counts = snapshot.counts;
  families.push_back(Single(MetricType::Gauge, "kvec_num_requests_running",
                            "Requests with a sequence on the workers", counts.num_running));
  families.push_back(Single(MetricType::Gauge, "kvec_num_requests_waiting", "Requests in the queue",
                            counts.num_waiting));
  families.push_back(Single(MetricType::Gauge, "kvec_waiting_prompt_tokens",
                            "Prompt tokens of the requests in the queue",
                            static_cast<double>(counts.waiting_prompt_tokens)));
  families.push_back(Single(MetricType::Gauge, "kvec_kv_cache_usage_perc",
                            "Share of the tightest worker's pages that are held, 0 to 1",
                            snapshot.kv_cache_usage));
  families.push_back(PagesByState(MetricType::Gauge, "kvec_kv_pages",
                                  "Pages of a worker that requests hold (used), that prefixes and "
                                  "idle sessions hold until they are needed (cached), and others",
                                  snapshot.workers));
  families.push_back(Single(MetricType::Gauge, "kvec_num_sessions",
                            "Sessions that a request may continue", counts.num_sessions));
  families.push_back(Single(MetricType::Gauge, "kvec_num_workers_ready",
                            "Workers of the groups that serve", snapshot.num_workers_ready));
  families.push_back(Single(MetricType::Counter, "kvec_prompt_tokens_total",
                            "Prompt tokens processed", static_cast<double>(counts.prompt_tokens)));
  families.push_back(Single(MetricType::Counter, "kvec_generation_tokens_total", "Tokens generated",
                            static_cast<double>(counts.generated_tokens)));
  families.push_back(Single(MetricType::Counter, "kvec_num_preemptions_total",
                            "Times a request lost its pages and was recomputed",
                            static_cast<double>(counts.preemptions)));
  families.push_back(Single(MetricType::Counter, "kvec_prefix_cache_queries_total",
                            "Prompt tokens looked for in the prefix cache",
                            static_cast<double>(counts.prefix_cache_queries)));
  families.push_back(Single(MetricType::Counter, "kvec_prefix_cache_hits_total",
                            "Prompt tokens found in the prefix cache",
                            static_cast<double>(counts.prefix_cache_hits)));
  families.push_back(Single(MetricType::Counter, "kvec_steps_total", "Steps sent to the workers",
                            static_cast<double>(counts.steps)));
  if (!snapshot.certificate_ends.empty()) {
    families.push_back(
        ByListener(MetricType::Gauge, "kvec_certificate_expiry_timestamp_seconds",
                   "When the TLS certificate of a listener expires, in seconds since 1970",
                   snapshot.certificate_ends));
  }
  return families;
}

}  // namespace kvec::coordinator::server
