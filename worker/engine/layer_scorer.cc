#include "worker/engine/layer_scorer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace kvec::worker::engine {
namespace {

// [num_kv_heads, num_queries]: entries up to each query's own token. The last token of the sequence
// is at `end` - 1.
std::vector<int32_t> NumVisible(const cache::SequenceCache& cache, int layer, int num_kv_heads,
                                int num_queries) {
  std::vector<int32_t> num_visible;
  for (int head = 0; head < num_kv_heads; ++head) {
    const std::vector<int32_t> positions = cache.Positions(layer, head);
    auto visible = positions.begin();
    for (int query = cache.num_tokens() - num_queries; query < cache.num_tokens(); ++query) {
      visible = std::upper_bound(visible, positions.end(), query);
      num_visible.push_back(static_cast<int32_t>(visible - positions.begin()));
    }
  }
  return num_visible;
}

}  // namespace

absl::StatusOr<eviction::RankScores> LayerScorer::Score(int layer,
                                                        const eviction::ScoreNeeds& needs,
                                                        const LayerCandidates& candidates,
                                                        Sequence& sequence) {
  KVEC_RETURN_IF_ERROR(ScoreEntries(layer, needs, candidates, sequence));
  maxima_.resize(needs.focus_window > 0 ? maxima_.size() : 0);
  if (needs.focus_window > 0) JoinMaxima(needs.focus_window, candidates);
  value_norms_.clear();
  if (needs.group_score == eviction::GroupScore::kWeightedMaximum) {
    KVEC_RETURN_IF_ERROR(NormEntries(layer, candidates, sequence));
  }

  eviction::RankScores scores;
  scores.num_candidates = candidates.size();
  const size_t window_size = static_cast<size_t>(heads_.num_heads) * candidates.size();
  for (size_t i = 0; i < needs.windows.size(); ++i) {
    scores.query_head_means.push_back(
        absl::MakeConstSpan(means_).subspan(i * window_size, window_size));
  }
  scores.maxima = maxima_;
  scores.value_norms = value_norms_;
  reading_maxima_.clear();
  if (!sequence.reading_maxima().empty()) {
    KVEC_RETURN_IF_ERROR(TakeReading(sequence.reading_maxima()[layer], candidates));
    scores.reading_maxima = reading_maxima_;
  }
  return scores;
}

absl::Status LayerScorer::ScoreEntries(int layer, const eviction::ScoreNeeds& needs,
                                       const LayerCandidates& candidates, Sequence& sequence) {
  const cache::QueryWindow& window = *sequence.query_window();
  const cache::SequenceCache& cache = sequence.cache();
  kernels::WindowScoreRequest request;
  request.queries = window.Layer(layer);
  request.num_queries = *std::max_element(needs.windows.begin(), needs.windows.end());
  request.first_query = window.RowOf(cache.num_tokens() - request.num_queries);
  request.heads = cache.Layer(layer);
  const std::vector<int32_t> num_visible =
      NumVisible(cache, layer, heads_.num_kv_heads, request.num_queries);
  request.num_visible = num_visible;
  request.num_candidates = candidates.num_entries();
  request.stride = candidates.max_entries();
  request.scale = scale_;
  request.windows = needs.windows;
  const size_t stride = static_cast<size_t>(request.stride);
  means_.assign(needs.windows.size() * heads_.num_heads * stride, 0.0f);
  request.means = means_.data();
  if (needs.focus_window > 0) {
    request.focus_window = needs.focus_window;
    maxima_.assign(static_cast<size_t>(heads_.num_kv_heads) * needs.focus_window * stride, 0.0f);
    request.maxima = maxima_.data();
  }
  KVEC_RETURN_IF_ERROR(device_.WindowScores(heads_, request, arena_));
  const auto kv_head_of = [&](int row) { return heads_.KvHeadOf(row % heads_.num_heads); };
  SpreadRows(candidates, kv_head_of, means_);
  return absl::OkStatus();
}

absl::Status LayerScorer::NormEntries(int layer, const LayerCandidates& candidates,
                                      Sequence& sequence) {
  const auto heads = sequence.cache().Layer(layer);
  int stride = 0;
  for (const kernels::HeadPages& head : heads) stride = std::max(stride, head.num_entries);
  std::vector<float> norms(heads.size() * static_cast<size_t>(stride));
  KVEC_RETURN_IF_ERROR(device_.ValueNorms(heads, stride, arena_, norms.data()));
  value_norms_.assign(heads.size() * static_cast<size_t>(candidates.size()), 0.0f);
  for (size_t head = 0; head < heads.size(); ++head) {
    const auto of_entries = candidates.OfEntries(static_cast<int>(head));
    for (size_t entry = 0; entry < of_entries.size(); ++entry) {
      value_norms_[head * candidates.size() + of_entries[entry]] = norms[head * stride + entry];
    }
  }
  return absl::OkStatus();
}

absl::Status LayerScorer::TakeReading(absl::Span<const float> maxima,
                                      const LayerCandidates& candidates) {
  const size_t num_tokens = maxima.size() / heads_.num_kv_heads;
  const size_t n = static_cast<size_t>(candidates.size());
  if (!candidates.is_complete() || n > num_tokens) {
    return absl::InternalError(absl::StrCat("second reading of ", num_tokens, " tokens, of ", n,
                                            " candidates some were evicted"));
  }
  for (int head = 0; head < heads_.num_kv_heads; ++head) {
    const auto row = maxima.subspan(head * num_tokens, n);
    reading_maxima_.insert(reading_maxima_.end(), row.begin(), row.end());
  }
  return absl::OkStatus();
}

// Of every query the maximum over this rank's KV heads, [focus_window, candidates].
void LayerScorer::JoinMaxima(int focus_window, const LayerCandidates& candidates) {
  SpreadRows(
      candidates, [&](int row) { return row / focus_window; }, maxima_);
  const size_t num_maxima = static_cast<size_t>(focus_window) * candidates.size();
  for (size_t i = num_maxima; i < maxima_.size(); ++i) {
    maxima_[i % num_maxima] = std::max(maxima_[i % num_maxima], maxima_[i]);
  }
  maxima_.resize(num_maxima);
}

void LayerScorer::SpreadRows(const LayerCandidates& candidates,
                             absl::FunctionRef<int(int row)> kv_head_of, std::vector<float>& rows) {
  if (candidates.is_complete()) return;  // entries and candidates are the same
  const size_t stride = static_cast<size_t>(candidates.max_entries());
  const size_t n = static_cast<size_t>(candidates.size());
  const size_t num_rows = rows.size() / stride;
  std::vector<float> spread(num_rows * n, 0.0f);
  for (size_t row = 0; row < num_rows; ++row) {
    const auto of_entries = candidates.OfEntries(kv_head_of(static_cast<int>(row)));
    for (size_t entry = 0; entry < of_entries.size(); ++entry) {
      spread[row * n + of_entries[entry]] = rows[row * stride + entry];
    }
  }
  rows = std::move(spread);
}

}  // namespace kvec::worker::engine
