#include "coordinator/client/bench_runner.h"

#include <algorithm>
#include <random>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "coordinator/client/generation.h"
#include "coordinator/client/overlap_rate.h"

namespace kvec::coordinator::client {
namespace {

// The first tokens of a stream may still share their Steps with other streams' prompts, or pay for
// caches that the long prompt has emptied.
constexpr uint32_t kDroppedTokens = 4;

// While other prompts of the batch are prefilled, a stream gets one token per chunk. Chunks are
// taken as at least this long; the coordinator's default is longer.
constexpr uint32_t kShortestChunk = 256;

// Workers tell their memory in heartbeats, one a second; a short first point may end before.
constexpr absl::Duration kHeartbeatPatience = absl::Seconds(10);
constexpr absl::Duration kStatusPause = absl::Milliseconds(50);

struct Stream {
  absl::Status status;
  Generation generation;
  std::vector<absl::Time> arrivals;  // of each token
};

void RunStream(v1::Inference::StubInterface& inference, const v1::GenerateRequest& request,
               absl::Time deadline, Stream& stream) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(deadline));
  const auto note_arrival = [&stream](const v1::GenerateResponse& message) {
    stream.arrivals.insert(stream.arrivals.end(), message.token_ids_size(), absl::Now());
  };
  stream.status = Generate(inference, context, request, note_arrival, stream.generation);
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

absl::StatusOr<double> PrefillRate(const std::vector<Stream>& streams) {
  const v1::Usage& usage = streams.front().generation.usage;
  if (!(usage.prefill_ms() > 0)) {
    return absl::InternalError(absl::StrCat("usage.prefill_ms: ", usage.prefill_ms()));
  }
  return usage.prompt_tokens() / (usage.prefill_ms() / 1000);
}

absl::StatusOr<double> DecodeRate(const std::vector<Stream>& streams, uint32_t decode_tokens) {
  std::vector<std::vector<absl::Time>> arrivals;
  arrivals.reserve(streams.size());
  for (const Stream& stream : streams) arrivals.push_back(stream.arrivals);
  auto rate = OverlapRate(arrivals, kDroppedTokens, decode_tokens);
  if (!rate.ok()) {
    return absl::Status(rate.status().code(),
                        absl::StrCat(rate.status().message(),
                                     "; give more --decode-tokens, or a larger KV arena "
                                     "(--kv-bytes) if the batch does not fit"));
  }
  return rate;
}

}  // namespace

BenchRunner::BenchRunner(const Connection& connection, const v1::GetModelResponse& model,
                         const Options& options)
    : connection_(connection),
      vocab_size_(model.vocab_size()),
      context_length_(model.context_length()),
      options_(options) {}

absl::StatusOr<BenchResult> BenchRunner::Measure(const BenchPoint& point,
                                                 const std::function<void()>& on_run) {
  std::vector<double> rates;
  std::vector<double> kv_bytes;
  std::vector<double> eviction_shares;
  for (int i = 0; i < options_.warmup_runs + options_.runs; ++i) {
    KVEC_ASSIGN_OR_RETURN(const Run run, MeasureOnce(point));
    on_run();
    if (i < options_.warmup_runs) continue;
    rates.push_back(run.tokens_per_second);
    kv_bytes.push_back(run.kv_bytes);
    eviction_shares.push_back(run.eviction_share);
  }
  BenchResult result;
  result.point = point;
  result.tokens_per_second = Median(rates);
  result.min_tokens_per_second = *std::min_element(rates.begin(), rates.end());
  result.max_tokens_per_second = *std::max_element(rates.begin(), rates.end());
  result.runs = options_.runs;
  result.kv_bytes = static_cast<uint64_t>(Median(kv_bytes));
  KVEC_ASSIGN_OR_RETURN(result.peak_rss_bytes, PeakRssBytes());
  result.eviction_share = Median(eviction_shares);
  return result;
}

absl::StatusOr<uint64_t> BenchRunner::PeakRssBytes() const {
  const absl::Time deadline = absl::Now() + kHeartbeatPatience;
  while (true) {
    KVEC_ASSIGN_OR_RETURN(const v1::GetStatusResponse status, connection_.GetStatus());
    uint64_t bytes = 0;
    bool all_known = true;
    for (const v1::WorkerStatus& worker : status.workers()) {
      bytes += worker.peak_resident_bytes();
      all_known = all_known && worker.peak_resident_bytes() > 0;
    }
    if (all_known || absl::Now() >= deadline) return bytes;
    absl::SleepFor(kStatusPause);
  }
}

absl::StatusOr<BenchRunner::Run> BenchRunner::MeasureOnce(const BenchPoint& point) {
  std::vector<v1::GenerateRequest> requests;
  for (uint32_t i = 0; i < point.batch; ++i) requests.push_back(RandomRequest(point));
  std::vector<Stream> streams(point.batch);
  std::vector<std::thread> threads;
  const absl::Time deadline = absl::Now() + options_.run_timeout;
  for (uint32_t i = 0; i < point.batch; ++i) {
    threads.emplace_back(
        [&, i] { RunStream(connection_.inference(), requests[i], deadline, streams[i]); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Stream& stream : streams) KVEC_RETURN_IF_ERROR(stream.status);

  Run run;
  if (point.phase == BenchPhase::kPrefill) {
    KVEC_ASSIGN_OR_RETURN(run.tokens_per_second, PrefillRate(streams));
  } else {
    KVEC_ASSIGN_OR_RETURN(run.tokens_per_second, DecodeRate(streams, options_.decode_tokens));
  }
  double eviction_ms = 0;
  double prefill_ms = 0;
  for (const Stream& stream : streams) {
    const v1::Usage& usage = stream.generation.usage;
    run.kv_bytes += static_cast<double>(usage.kv_bytes());
    eviction_ms += usage.eviction_ms();
    prefill_ms += usage.prefill_ms();
  }
  run.eviction_share = prefill_ms > 0 ? eviction_ms / prefill_ms : 0;
  return run;
}

v1::GenerateRequest BenchRunner::RandomRequest(const BenchPoint& point) {
  std::seed_seq seed{options_.seed, num_requests_++};
  std::mt19937_64 generator(seed);
  std::uniform_int_distribution<uint32_t> token_id(0, vocab_size_ - 1);
  v1::GenerateRequest request;
  for (uint32_t i = 0; i < point.prompt_tokens; ++i) {
    request.mutable_token_ids()->add_ids(token_id(generator));
  }
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stopping()->set_ignore_eos(true);
  request.mutable_stopping()->set_max_tokens(
      point.phase == BenchPhase::kPrefill ? 1 : DecodeLength(point));
  *request.mutable_cache() = options_.cache;
  return request;
}

uint32_t BenchRunner::DecodeLength(const BenchPoint& point) const {
  const uint32_t chunks_of_others =
      (point.batch - 1) * ((point.prompt_tokens + kShortestChunk - 1) / kShortestChunk);
  const uint32_t wanted = kDroppedTokens + 1 + options_.decode_tokens + chunks_of_others;
  const uint32_t room =
      context_length_ > point.prompt_tokens ? context_length_ - point.prompt_tokens : 1;
  return std::min(wanted, room);
}

}  // namespace kvec::coordinator::client
