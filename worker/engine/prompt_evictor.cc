#include "worker/engine/prompt_evictor.h"

#include <algorithm>
#include <cstdint>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/status_macros.h"

namespace kvec::worker::engine {
namespace {

constexpr char kFullPolicy[] = "full";

int NumCandidates(const Sequence& sequence) {
  return static_cast<int>(sequence.prompt_tokens()) -
         static_cast<int>(sequence.cache_policy().observation_window());
}

// Share of the window's attention that falls on what is kept: the mean over query heads.
float AttentionMassKept(const eviction::LayerScores& scores,
                        const eviction::Selection& selection) {
  const int num_heads = scores.num_kv_heads * scores.group_size;
  double lost = 0;
  for (int head = 0; head < num_heads; ++head) {
    const auto mean = scores.QueryHeadMean(0, head);
    lost += std::accumulate(mean.begin(), mean.end(), 0.0);
    for (int32_t token : selection[head / scores.group_size]) lost -= mean[token];
  }
  return static_cast<float>(1.0 - lost / num_heads);
}

int NumUnique(const eviction::Selection& selection, int num_candidates) {
  std::vector<uint8_t> kept(num_candidates, 0);
  for (const auto& head : selection) {
    for (int32_t token : head) kept[token] = 1;
  }
  return std::accumulate(kept.begin(), kept.end(), 0);
}

// One bit per prompt token: some head of some layer keeps it.
std::string KeptTokenBits(const eviction::Coverage& coverage, int prompt_tokens) {
  std::string bits((prompt_tokens + 7) / 8, '\0');
  const int num_candidates = static_cast<int>(coverage.layers_selecting.size());
  for (int token = 0; token < prompt_tokens; ++token) {
    const bool is_kept = token >= num_candidates || coverage.layers_selecting[token] > 0;
    if (is_kept) bits[token / 8] = static_cast<char>(bits[token / 8] | (1 << token % 8));
  }
  return bits;
}

}  // namespace

bool PromptEvictor::ClosesSentence(int32_t token) const {
  const size_t byte = static_cast<size_t>(token) / 8;
  return byte < options_.sentence_end_bits.size() &&
         (options_.sentence_end_bits[byte] >> (token % 8) & 1) != 0;
}

absl::StatusOr<std::unique_ptr<eviction::Policy>> PromptEvictor::PolicyOf(
    const Sequence& sequence) const {
  const v1::CachePolicy& cache_policy = sequence.cache_policy();
  eviction::PolicyParameters parameters;
  parameters.prompt_tokens = static_cast<int>(sequence.prompt_tokens());
  parameters.observation_window = static_cast<int>(cache_policy.observation_window());
  parameters.wide_window = static_cast<int>(
      std::min(cache_policy.wide_window(), sequence.prompt_tokens()));
  parameters.lambda = cache_policy.lambda();
  parameters.beta = cache_policy.beta();
  if (cache_policy.has_delta()) parameters.delta = static_cast<int>(cache_policy.delta());
  parameters.adaptive_heads = cache_policy.head_allocation() != "uniform";
  for (int32_t token : sequence.prompt()) {
    parameters.sentence_ends.push_back(ClosesSentence(token) ? 1 : 0);
  }
  return eviction::MakePolicy(cache_policy.policy(), std::move(parameters));
}

absl::Status PromptEvictor::Prepare(Sequence& sequence) {
  if (sequence.cache_policy().policy() == kFullPolicy || NumCandidates(sequence) <= 0) {
    return absl::OkStatus();
  }
  KVEC_ASSIGN_OR_RETURN(const auto policy, PolicyOf(sequence));
  const std::vector<int> windows = policy->needs().windows;
  KVEC_ASSIGN_OR_RETURN(
      auto window,
      cache::QueryWindow::Create(device_, shape_.num_layers(), heads_.num_heads * heads_.head_dim,
                                 static_cast<int>(sequence.prompt_tokens()),
                                 *std::max_element(windows.begin(), windows.end())));
  sequence.set_query_window(std::move(window));
  return absl::OkStatus();
}

absl::StatusOr<v1::EvictionReport> PromptEvictor::Evict(const v1::EvictionOrder& order,
                                                        Sequence& sequence) {
  const absl::Time begin = absl::Now();
  if (sequence.query_window() == nullptr ||
      sequence.next_position() != sequence.prompt_tokens()) {
    return absl::InternalError(absl::StrCat("sequence ", sequence.id(), ": cannot evict at ",
                                            sequence.next_position(), " of ",
                                            sequence.prompt_tokens(), " prompt tokens"));
  }
  if (order.layer_budgets_size() < options_.layers.end()) {
    return absl::InternalError(absl::StrCat("sequence ", sequence.id(), ": layer_budgets of ",
                                            order.layer_budgets_size(), " layers, not ",
                                            options_.layers.end()));
  }
  KVEC_ASSIGN_OR_RETURN(const auto policy, PolicyOf(sequence));
  eviction::Coverage coverage;
  coverage.layers_selecting.assign(NumCandidates(sequence), 0);
  v1::EvictionReport report;
  report.set_sequence_id(sequence.id());
  for (int layer = 0; layer < options_.layers.count; ++layer) {
    if (shape_.sliding_windows[layer] > 0) continue;
    const int model_layer = options_.layers.first + layer;
    KVEC_ASSIGN_OR_RETURN(
        *report.add_layers(),
        EvictLayer(layer, static_cast<int>(order.layer_budgets(model_layer)), *policy, sequence,
                   coverage));
  }
  sequence.set_query_window(nullptr);
  uint64_t kept_entries = 0;
  for (const v1::LayerCacheUsage& layer : report.layers()) kept_entries += layer.kept_entries();
  report.set_kept_entries(kept_entries);
  report.set_kept_token_bits(
      KeptTokenBits(coverage, static_cast<int>(sequence.prompt_tokens())));
  report.set_eviction_ms(absl::ToDoubleMilliseconds(absl::Now() - begin));
  return report;
}

absl::StatusOr<v1::LayerCacheUsage> PromptEvictor::EvictLayer(int layer, int budget,
                                                              const eviction::Policy& policy,
                                                              Sequence& sequence,
                                                              eviction::Coverage& coverage) {
  KVEC_ASSIGN_OR_RETURN(const eviction::LayerScores scores,
                        Score(layer, policy.needs(), sequence));
  const int num_candidates = scores.num_candidates;
  eviction::Selection selection = policy.Select(scores, budget, coverage);
  eviction::AddSelection(selection, coverage);

  v1::LayerCacheUsage usage;
  usage.set_layer(options_.layers.first + layer);
  usage.set_budget(budget);
  usage.set_attention_mass(AttentionMassKept(scores, selection));
  const int window = static_cast<int>(sequence.prompt_tokens()) - num_candidates;
  usage.set_unique_tokens(NumUnique(selection, num_candidates) + window);
  uint32_t kept_entries = 0;
  for (std::vector<int32_t>& head : selection) {
    for (int i = 0; i < window; ++i) head.push_back(num_candidates + i);
    kept_entries += static_cast<uint32_t>(head.size());
  }
  usage.set_kept_entries(kept_entries);

  cache::SequenceCache& cache = sequence.cache();
  KVEC_ASSIGN_OR_RETURN(const auto moves, cache.BeginEviction(layer, selection));
  KVEC_RETURN_IF_ERROR(device_.GatherEntries(moves, arena_));
  cache.FinishEviction(layer);
  return usage;
}

// The mean over the window's queries of the maximum over all heads.
void PromptEvictor::ReduceFocus(int window, int num_candidates) {
  for (int t = 0; t < num_candidates; ++t) {
    float sum = 0;
    for (int query = 0; query < window; ++query) {
      float largest = 0;
      for (int head = 0; head < heads_.num_kv_heads; ++head) {
        const size_t row = static_cast<size_t>(head) * window + query;
        largest = std::max(largest, maxima_[row * num_candidates + t]);
      }
      sum += largest;
    }
    focus_[t] = sum / static_cast<float>(window);
  }
}

absl::StatusOr<eviction::LayerScores> PromptEvictor::Score(int layer,
                                                           const eviction::ScoreNeeds& needs,
                                                           Sequence& sequence) {
  const int n = NumCandidates(sequence);
  const cache::QueryWindow& window = *sequence.query_window();
  const size_t window_size = static_cast<size_t>(heads_.num_heads) * n;
  means_.resize(needs.windows.size() * window_size);
  focus_.resize(needs.focus ? n : 0);
  const int num_entries = static_cast<int>(sequence.prompt_tokens());
  std::vector<int32_t> num_visible;
  for (int head = 0; head < heads_.num_kv_heads; ++head) {
    for (int query = window.num_queries(); query > 0; --query) {
      num_visible.push_back(num_entries - query + 1);
    }
  }
  const std::vector<int32_t> num_candidates(heads_.num_kv_heads, n);
  kernels::WindowScoreRequest request;
  request.queries = window.Layer(layer);
  request.num_queries = window.num_queries();
  request.heads = sequence.cache().Layer(layer);
  request.num_visible = num_visible;
  request.num_candidates = num_candidates;
  request.stride = n;
  request.scale = options_.attention_scale;
  request.windows = needs.windows;
  request.means = means_.data();
  if (needs.focus) {
    request.focus_window = static_cast<int>(sequence.cache_policy().observation_window());
    maxima_.resize(static_cast<size_t>(heads_.num_kv_heads) * request.focus_window * n);
    request.maxima = maxima_.data();
  }
  KVEC_RETURN_IF_ERROR(device_.WindowScores(heads_, request, arena_));
  if (needs.focus) ReduceFocus(request.focus_window, n);
  if (needs.value_norms) {
    std::vector<float> norms(static_cast<size_t>(heads_.num_kv_heads) * num_entries);
    KVEC_RETURN_IF_ERROR(device_.ValueNorms(request.heads, num_entries, arena_, norms.data()));
    value_norms_.clear();
    for (int head = 0; head < heads_.num_kv_heads; ++head) {
      const auto begin = norms.begin() + static_cast<std::ptrdiff_t>(head) * num_entries;
      value_norms_.insert(value_norms_.end(), begin, begin + n);
    }
  }
  eviction::LayerScores scores;
  scores.num_candidates = n;
  scores.num_kv_heads = heads_.num_kv_heads;
  scores.group_size = heads_.group_size;
  for (size_t i = 0; i < needs.windows.size(); ++i) {
    scores.query_head_means.push_back(
        absl::MakeConstSpan(means_).subspan(i * window_size, window_size));
  }
  scores.focus = focus_;
  scores.value_norms = value_norms_;
  return scores;
}

}  // namespace kvec::worker::engine
