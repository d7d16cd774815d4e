#include "worker/engine/device_chooser.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "common/status_macros.h"
#include "worker/trace/span_recorder.h"

namespace kvec::worker::engine {

std::vector<int> DeviceChooser::EvictingLayers() const {
  std::vector<int> layers;
  for (int layer = 0; layer < shape_.num_layers(); ++layer) {
    if (shape_.sliding_windows[layer] == 0) layers.push_back(layer);
  }
  return layers;
}

bool DeviceChooser::CanChoose(const eviction::Policy& policy, Sequence& sequence) const {
  const bool ranks_meet_there =
      options_.ranks.size() == 1 || (comm_ != nullptr && comm_->is_queued());
  if (device_.chooser() == nullptr || !policy.device_rules(num_kv_heads()).has_value() ||
      !ranks_meet_there || !sequence.reading_maxima().empty()) {
    return false;
  }
  const std::vector<int> layers = EvictingLayers();
  return std::none_of(layers.begin(), layers.end(),
                      [&](int layer) { return sequence.cache().IsEvicted(layer); });
}

absl::Status DeviceChooser::Begin(const eviction::Policy& policy, absl::Span<const int> budgets,
                                  int num_candidates, const eviction::Coverage& coverage) {
  std::vector<kernels::RankHeadRange> ranks;
  for (const eviction::RankHeads& rank : options_.ranks) {
    ranks.push_back({rank.first_head, rank.num_heads, rank.first_kv_head, rank.num_kv_heads});
  }
  const eviction::ScoreNeeds needs = policy.needs();
  return device_.chooser()->Begin(
      {.rules = *policy.device_rules(num_kv_heads()),
       .shape = heads_,
       .ranks = ranks,
       .rank = options_.rank,
       .num_candidates = num_candidates,
       .num_windows = static_cast<int>(needs.windows.size()),
       .focus_window = needs.focus_window,
       .num_layers_before = coverage.num_layers,
       .layers_selecting = absl::MakeConstSpan(coverage.layers_selecting)
                               .first(static_cast<size_t>(num_candidates)),
       .layer_budgets = budgets});
}

absl::Status DeviceChooser::QueueLayer(int layer, const eviction::ScoreNeeds& needs,
                                       int num_candidates, Sequence& sequence) {
  const int num_queries = *std::max_element(needs.windows.begin(), needs.windows.end());
  const cache::QueryWindow& window = *sequence.query_window();
  const cache::SequenceCache& cache = sequence.cache();
  // Nothing was evicted: a query sees as many entries as there are tokens up to its own.
  std::vector<int32_t> num_visible(static_cast<size_t>(heads_.num_kv_heads * num_queries));
  for (size_t i = 0; i < num_visible.size(); ++i) {
    num_visible[i] = cache.num_tokens() - num_queries + 1 + static_cast<int>(i) % num_queries;
  }
  const std::vector<int32_t> of_heads(static_cast<size_t>(heads_.num_kv_heads), num_candidates);
  kernels::WindowScoreRequest request;
  request.queries = window.Layer(layer);
  request.first_query = window.RowOf(cache.num_tokens() - num_queries);
  request.num_queries = num_queries;
  request.heads = cache.Layer(layer);
  request.num_visible = num_visible;
  request.num_candidates = of_heads;
  request.stride = num_candidates;
  request.scale = options_.attention_scale;
  request.windows = needs.windows;
  request.focus_window = needs.focus_window;
  KVEC_ASSIGN_OR_RETURN(const kernels::RankWeights weights,
                        device_.chooser()->ScoreLayer(request, arena_));
  if (options_.ranks.size() > 1 && !weights.all.empty()) {
    const trace::ScopedSpan span("exchange");
    KVEC_RETURN_IF_ERROR(comm_->TensorRanks().AllGather(weights.mine, weights.all));
    sent_bytes_ += weights.mine.size() * (options_.ranks.size() - 1);
  }
  return device_.chooser()->ChooseLayer();
}

LayerChoice DeviceChooser::ChoiceOf(int layer, kernels::ChosenEntries chosen, int num_candidates,
                                    int num_tokens) const {
  const eviction::RankHeads& mine = options_.ranks[static_cast<size_t>(options_.rank)];
  LayerChoice choice;
  choice.layer = layer;
  choice.unique_tokens = chosen.num_unique + num_tokens - num_candidates;
  const double lost =
      std::accumulate(chosen.lost_attention.begin(), chosen.lost_attention.end(), 0.0);
  choice.attention_mass =
      static_cast<float>((mine.num_heads - lost) / static_cast<double>(num_query_heads()));
  for (int head = 0; head < mine.num_kv_heads; ++head) {
    std::vector<int32_t>& kept =
        choice.kept.emplace_back(std::move(chosen.kept[mine.first_kv_head + head]));
    for (int32_t entry = num_candidates; entry < num_tokens; ++entry) kept.push_back(entry);
  }
  return choice;
}

absl::StatusOr<std::vector<LayerChoice>> DeviceChooser::Choose(
    const eviction::Policy& policy, absl::Span<const uint32_t> layer_budgets, Sequence& sequence,
    eviction::Coverage& coverage) {
  const int num_tokens = sequence.cache().num_tokens();
  const int num_candidates =
      num_tokens - static_cast<int>(sequence.cache_policy().observation_window());
  const std::vector<int> layers = EvictingLayers();
  std::vector<int> budgets;
  for (int layer : layers) budgets.push_back(static_cast<int>(layer_budgets[layer]));
  KVEC_RETURN_IF_ERROR(Begin(policy, budgets, num_candidates, coverage));
  const eviction::ScoreNeeds needs = policy.needs();
  for (int layer : layers) {
    KVEC_RETURN_IF_ERROR(QueueLayer(layer, needs, num_candidates, sequence));
  }
  KVEC_ASSIGN_OR_RETURN(kernels::Choice chosen, device_.chooser()->Finish());
  std::copy(chosen.layers_selecting.begin(), chosen.layers_selecting.end(),
            coverage.layers_selecting.begin());
  coverage.num_layers += static_cast<int>(layers.size());
  std::vector<LayerChoice> choices;
  for (size_t i = 0; i < layers.size(); ++i) {
    choices.push_back(ChoiceOf(layers[i], std::move(chosen.layers[i]), num_candidates, num_tokens));
  }
  return choices;
}

}  // namespace kvec::worker::engine
