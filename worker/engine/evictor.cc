#include "worker/engine/evictor.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/status_macros.h"
#include "worker/eviction/coverage_message.h"
#include "worker/eviction/layer_curve.h"
#include "worker/trace/span_recorder.h"

namespace kvec::worker::engine {
namespace {

constexpr char kFullPolicy[] = "full";

int ObservationWindow(const Sequence& sequence) {
  return static_cast<int>(sequence.cache_policy().observation_window());
}

// Whether the sequence is evicted elsewhere than at its prompt's end.
bool HasSchedule(const v1::CachePolicy& policy) {
  return policy.prefill_bound_tokens() > 0 || policy.decode_interval_tokens() > 0;
}

// Whether nothing will be evicted from the sequence after this order.
bool IsLastEviction(const v1::EvictionOrder& order, const Sequence& sequence) {
  return order.position() >= sequence.first_prompt_tokens() &&
         sequence.cache_policy().decode_interval_tokens() == 0;
}

int NumUnique(const eviction::Selection& selection, int num_candidates) {
  std::vector<uint8_t> kept(num_candidates, 0);
  for (const auto& head : selection) {
    for (int32_t token : head) kept[token] = 1;
  }
  return std::accumulate(kept.begin(), kept.end(), 0);
}

std::string NoBits(int num_tokens) { return std::string((num_tokens + 7) / 8, '\0'); }

void SetBit(int token, std::string& bits) {
  bits[token / 8] = static_cast<char>(bits[token / 8] | (1 << token % 8));
}

// One bit per token: some head of some layer of this stage keeps it, as all keep the last `window`
// ones.
std::string KeptTokenBits(const eviction::Coverage& before, const eviction::Coverage& after,
                          int window) {
  const int num_tokens = static_cast<int>(after.layers_selecting.size());
  std::string bits = NoBits(num_tokens);
  for (int token = 0; token < num_tokens; ++token) {
    const bool is_selected = after.layers_selecting[token] != before.layers_selecting[token];
    if (is_selected || token >= num_tokens - window) SetBit(token, bits);
  }
  return bits;
}

// One bit per token that a head keeps.
std::string KeptTokenBits(absl::Span<const int32_t> positions, int num_tokens) {
  std::string bits = NoBits(num_tokens);
  for (int32_t position : positions) SetBit(position, bits);
  return bits;
}

}  // namespace

float Evictor::AttentionMassKept(const eviction::RankScores& scores,
                                 const eviction::Selection& selection) const {
  const eviction::RankHeads& mine = exchange_.mine();
  const double num_heads = exchange_.num_kv_heads() * heads_.group_size;
  double lost = 0;
  for (int head = 0; head < mine.num_heads; ++head) {
    const auto mean = scores.query_head_means[0].subspan(
        static_cast<size_t>(head) * scores.num_candidates, scores.num_candidates);
    lost += std::accumulate(mean.begin(), mean.end(), 0.0);
    for (int32_t token : selection[mine.first_kv_head + heads_.KvHeadOf(head)]) lost -= mean[token];
  }
  return static_cast<float>(mine.num_heads / num_heads - lost / num_heads);
}

bool Evictor::ClosesSentence(int32_t token) const {
  const size_t byte = static_cast<size_t>(token) / 8;
  return byte < options_.sentence_end_bits.size() &&
         (options_.sentence_end_bits[byte] >> (token % 8) & 1) != 0;
}

absl::StatusOr<std::unique_ptr<eviction::Policy>> Evictor::PolicyOf(const Sequence& sequence,
                                                                    int num_tokens) const {
  const v1::CachePolicy& cache_policy = sequence.cache_policy();
  eviction::PolicyParameters parameters;
  parameters.num_tokens = num_tokens;
  parameters.observation_window = ObservationWindow(sequence);
  parameters.wide_window = std::min(static_cast<int>(cache_policy.wide_window()), num_tokens);
  parameters.lambda = cache_policy.lambda();
  parameters.beta = cache_policy.beta();
  if (cache_policy.has_delta()) parameters.delta = static_cast<int>(cache_policy.delta());
  parameters.adaptive_heads = cache_policy.head_allocation() != "uniform";
  for (int32_t token : sequence.tokens()) {
    parameters.sentence_ends.push_back(ClosesSentence(token) ? 1 : 0);
  }
  return eviction::MakePolicy(cache_policy.policy(), std::move(parameters));
}

absl::Status Evictor::Prepare(Sequence& sequence) {
  const v1::CachePolicy& cache_policy = sequence.cache_policy();
  const bool has_schedule = HasSchedule(cache_policy);
  const int prompt_tokens = static_cast<int>(sequence.first_prompt_tokens());
  const bool is_short = prompt_tokens <= ObservationWindow(sequence) && !has_schedule;
  if (cache_policy.policy() == kFullPolicy || is_short) return absl::OkStatus();
  const int num_tokens = has_schedule ? std::numeric_limits<int>::max() : prompt_tokens;
  KVEC_ASSIGN_OR_RETURN(const auto policy, PolicyOf(sequence, num_tokens));
  const std::vector<int> windows = policy->needs().windows;
  cache::QueryWindow::Options options;
  options.num_layers = shape_.num_layers();
  options.query_cols = heads_.num_heads * heads_.head_dim;
  options.capacity = *std::max_element(windows.begin(), windows.end());
  if (!has_schedule) options.first_position = prompt_tokens - options.capacity;
  KVEC_ASSIGN_OR_RETURN(auto window, cache::QueryWindow::Create(device_, options));
  sequence.set_query_window(std::move(window));
  return absl::OkStatus();
}

absl::Status Evictor::CheckOrder(const v1::EvictionOrder& order, const Sequence& sequence) const {
  if (sequence.query_window() == nullptr || sequence.next_position() != order.position() ||
      sequence.next_position() <= ObservationWindow(sequence)) {
    return absl::InternalError(absl::StrCat("sequence ", sequence.id(), ": cannot evict at ",
                                            order.position(), ", has ", sequence.next_position(),
                                            " tokens and an observation window of ",
                                            ObservationWindow(sequence)));
  }
  if (order.layer_budgets_size() < options_.layers.end()) {
    return absl::InternalError(absl::StrCat("sequence ", sequence.id(), ": layer_budgets of ",
                                            order.layer_budgets_size(), " layers, not ",
                                            options_.layers.end()));
  }
  return absl::OkStatus();
}

absl::StatusOr<eviction::Coverage> Evictor::BeginCoverage(int num_tokens) {
  if (comm_ != nullptr && comm_->stage > 0) {
    return eviction::ReceiveCoverage(num_tokens, comm_->Index(comm_->stage - 1, comm_->rank),
                                     *comm_->group);
  }
  eviction::Coverage coverage;
  coverage.layers_selecting.assign(num_tokens, 0);
  return coverage;
}

absl::Status Evictor::PassCoverageOn(const eviction::Coverage& coverage) {
  if (comm_ == nullptr || comm_->stage + 1 == comm_->num_stages) return absl::OkStatus();
  return eviction::SendCoverage(coverage, comm_->Index(comm_->stage + 1, comm_->rank),
                                *comm_->group);
}

absl::StatusOr<v1::EvictionReport> Evictor::Evict(const v1::EvictionOrder& order,
                                                  Sequence& sequence) {
  const trace::ScopedSpan span("eviction");
  const absl::Time begin = absl::Now();
  const uint64_t sent_before = exchange_.sent_bytes() + device_chooser_.sent_bytes();
  const absl::Duration exchanged_before = exchange_.duration();
  KVEC_RETURN_IF_ERROR(CheckOrder(order, sequence));
  const int num_tokens = static_cast<int>(order.position());
  KVEC_ASSIGN_OR_RETURN(const auto policy, PolicyOf(sequence, num_tokens));
  KVEC_ASSIGN_OR_RETURN(const eviction::Coverage before, BeginCoverage(num_tokens));
  eviction::Coverage coverage = before;
  v1::EvictionReport report;
  report.set_sequence_id(sequence.id());
  report.set_position(order.position());
  KVEC_RETURN_IF_ERROR(device_chooser_.CanChoose(*policy, sequence)
                           ? EvictByDevice(order, *policy, sequence, coverage, report)
                           : EvictByHost(order, *policy, sequence, coverage, report));
  KVEC_RETURN_IF_ERROR(PassCoverageOn(coverage));
  sequence.reading_maxima().clear();
  uint64_t kept_entries = 0;
  for (const v1::LayerCacheUsage& layer : report.layers()) kept_entries += layer.kept_entries();
  report.set_kept_entries(kept_entries);
  report.set_kept_token_bits(KeptTokenBits(before, coverage, ObservationWindow(sequence)));
  report.set_eviction_ms(absl::ToDoubleMilliseconds(absl::Now() - begin));
  report.set_exchanged_bytes(exchange_.sent_bytes() + device_chooser_.sent_bytes() - sent_before);
  report.set_exchange_ms(absl::ToDoubleMilliseconds(exchange_.duration() - exchanged_before));
  return report;
}

absl::StatusOr<v1::CurveReport> Evictor::Curves(absl::Span<const uint32_t> budgets,
                                                Sequence& sequence) {
  const int window = ObservationWindow(sequence);
  if (sequence.query_window() == nullptr || sequence.next_position() <= window) {
    return absl::InternalError(absl::StrCat("sequence ", sequence.id(),
                                            ": curves are wanted of a cache that is not evicted"));
  }
  KVEC_ASSIGN_OR_RETURN(const auto policy,
                        PolicyOf(sequence, static_cast<int>(sequence.next_position())));
  v1::CurveReport report;
  report.set_sequence_id(sequence.id());
  for (int layer = 0; layer < options_.layers.count; ++layer) {
    if (shape_.sliding_windows[layer] > 0) continue;
    KVEC_ASSIGN_OR_RETURN(const ScoredLayer scored, ScoreLayer(layer, *policy, sequence));
    v1::LayerCurve& curve = *report.add_layers();
    curve.set_layer(options_.layers.first + layer);
    for (float share : eviction::LayerCurve(policy->Scores(scored.scores), budgets)) {
      curve.add_kept_share(share);
    }
  }
  return report;
}

absl::StatusOr<LayerCandidates> Evictor::CandidatesOf(int layer, const Sequence& sequence) {
  const cache::SequenceCache& cache = sequence.cache();
  LayerCandidates::Options options{.first_kv_head = 0,
                                   .num_kv_heads = heads_.num_kv_heads,
                                   .window = ObservationWindow(sequence)};
  std::vector<std::vector<int32_t>> positions;
  for (int head = 0; head < heads_.num_kv_heads; ++head) {
    positions.push_back(cache.Positions(layer, head));
  }
  // Until something was evicted all heads hold the same, whichever rank they are on.
  if (exchange_.num_ranks() > 1 && cache.IsEvicted(layer)) {
    KVEC_ASSIGN_OR_RETURN(positions, exchange_.JoinPositions(positions, cache.num_tokens()));
    options.first_kv_head = exchange_.mine().first_kv_head;
  }
  return LayerCandidates(std::move(positions), options);
}

absl::StatusOr<Evictor::ScoredLayer> Evictor::ScoreLayer(int layer, const eviction::Policy& policy,
                                                         Sequence& sequence) {
  KVEC_ASSIGN_OR_RETURN(LayerCandidates candidates, CandidatesOf(layer, sequence));
  KVEC_ASSIGN_OR_RETURN(eviction::RankScores mine,
                        scorer_.Score(layer, policy.needs(), candidates, sequence));
  KVEC_ASSIGN_OR_RETURN(eviction::LayerScores scores, exchange_.Join(policy.needs(), mine));
  ScoredLayer scored{std::move(candidates), {}, std::move(mine), std::move(scores)};
  scored.scores.positions = scored.candidates.positions();
  if (!scored.candidates.is_complete()) {
    scored.held = scored.candidates.Held();
    scored.scores.held = scored.held;
  }
  return scored;
}

absl::StatusOr<LayerChoice> Evictor::ChooseLayer(int layer, int budget,
                                                 const eviction::Policy& policy, Sequence& sequence,
                                                 eviction::Coverage& coverage) {
  KVEC_ASSIGN_OR_RETURN(const ScoredLayer scored, ScoreLayer(layer, policy, sequence));
  const LayerCandidates& candidates = scored.candidates;
  const eviction::Selection selection = policy.Select(scored.scores, budget, coverage);
  eviction::AddSelection(scored.scores, selection, coverage);
  LayerChoice choice;
  choice.layer = layer;
  choice.unique_tokens = NumUnique(selection, candidates.size()) + ObservationWindow(sequence);
  choice.attention_mass = AttentionMassKept(scored.mine, selection);
  for (int head = 0; head < heads_.num_kv_heads; ++head) {
    choice.kept.push_back(
        candidates.Entries(head, selection[exchange_.mine().first_kv_head + head]));
  }
  return choice;
}

absl::Status Evictor::EvictByHost(const v1::EvictionOrder& order, const eviction::Policy& policy,
                                  Sequence& sequence, eviction::Coverage& coverage,
                                  v1::EvictionReport& report) {
  for (int layer = 0; layer < options_.layers.count; ++layer) {
    if (shape_.sliding_windows[layer] > 0) continue;
    const auto budget = static_cast<int>(order.layer_budgets(options_.layers.first + layer));
    KVEC_ASSIGN_OR_RETURN(const LayerChoice choice,
                          ChooseLayer(layer, budget, policy, sequence, coverage));
    KVEC_ASSIGN_OR_RETURN(*report.add_layers(), Compact(order, choice, sequence));
  }
  if (IsLastEviction(order, sequence)) sequence.set_query_window(nullptr);
  return absl::OkStatus();
}

absl::Status Evictor::EvictByDevice(const v1::EvictionOrder& order, const eviction::Policy& policy,
                                    Sequence& sequence, eviction::Coverage& coverage,
                                    v1::EvictionReport& report) {
  const auto budgets = absl::MakeConstSpan(order.layer_budgets().data(), options_.layers.end())
                           .subspan(options_.layers.first);
  KVEC_ASSIGN_OR_RETURN(const std::vector<LayerChoice> choices,
                        device_chooser_.Choose(policy, budgets, sequence, coverage));
  // Now that the device is idle: memory is freed only when it is.
  if (IsLastEviction(order, sequence)) sequence.set_query_window(nullptr);
  for (const LayerChoice& choice : choices) {
    KVEC_ASSIGN_OR_RETURN(*report.add_layers(), Compact(order, choice, sequence));
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::LayerCacheUsage> Evictor::Compact(const v1::EvictionOrder& order,
                                                     const LayerChoice& choice,
                                                     Sequence& sequence) {
  cache::SequenceCache& cache = sequence.cache();
  KVEC_ASSIGN_OR_RETURN(const auto moves, cache.BeginEviction(choice.layer, choice.kept));
  KVEC_RETURN_IF_ERROR(device_.GatherEntries(moves, arena_));
  cache.FinishEviction(choice.layer);

  const int model_layer = options_.layers.first + choice.layer;
  v1::LayerCacheUsage usage;
  usage.set_layer(model_layer);
  usage.set_budget(order.layer_budgets(model_layer));
  usage.set_attention_mass(choice.attention_mass);
  usage.set_unique_tokens(choice.unique_tokens);
  uint32_t kept_entries = 0;
  for (int head = 0; head < heads_.num_kv_heads; ++head) {
    if (exchange_.mine().first_kv_head + head < options_.reported_kv_heads.begin) continue;
    kept_entries += static_cast<uint32_t>(choice.kept[head].size());
    if (order.report_kept_tokens()) {
      usage.add_kept_token_bits(
          KeptTokenBits(cache.Positions(choice.layer, head), static_cast<int>(order.position())));
    }
  }
  usage.set_kept_entries(kept_entries);
  return usage;
}

}  // namespace kvec::worker::engine
