#include "worker/eviction/rank_exchange.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "worker/trace/span_recorder.h"

namespace kvec::worker::eviction {
namespace {

size_t BitmapBytes(int num_tokens) { return (static_cast<size_t>(num_tokens) + 7) / 8; }

std::vector<int32_t> PositionsIn(absl::Span<const uint8_t> bits, int num_tokens) {
  std::vector<int32_t> positions;
  for (int32_t position = 0; position < num_tokens; ++position) {
    if (bits[position / 8] >> (position % 8) & 1) positions.push_back(position);
  }
  return positions;
}

void Add(const float* values, int n, float* to) {
  for (int t = 0; t < n; ++t) to[t] += values[t];
}

void Raise(const float* values, int n, float* to) {
  for (int t = 0; t < n; ++t) to[t] = std::max(to[t], values[t]);
}

}  // namespace

RankExchange::RankExchange(std::vector<RankHeads> heads, int rank, int group_size)
    : heads_(std::move(heads)), rank_(rank), group_size_(group_size) {
  for (const RankHeads& of_rank : heads_) {
    num_kv_heads_ = std::max(num_kv_heads_, of_rank.first_kv_head + of_rank.num_kv_heads);
  }
}

RankExchange::QueryHeads RankExchange::QueryHeadsOf(int rank, int kv_head) const {
  const RankHeads& of_rank = heads_[rank];
  const int begin = std::max(of_rank.first_head, kv_head * group_size_);
  const int end = std::min(of_rank.first_head + of_rank.num_heads, (kv_head + 1) * group_size_);
  return {begin - of_rank.first_head, end - begin};
}

bool RankExchange::Holds(int rank, int kv_head) const {
  const int index = kv_head - heads_[rank].first_kv_head;
  return index >= 0 && index < heads_[rank].num_kv_heads;
}

int RankExchange::RowsOf(int rank, int kv_head, GroupScore group_score) const {
  if (group_score == GroupScore::kNone) return 0;
  const int count = QueryHeadsOf(rank, kv_head).count;
  return group_score == GroupScore::kMean && count < group_size_ ? count : 1;
}

int RankExchange::NumRows(int rank, const ScoreNeeds& needs) const {
  int rows = 0;
  for (int i = 0; i < heads_[rank].num_kv_heads; ++i) {
    rows += RowsOf(rank, heads_[rank].first_kv_head + i, needs.group_score);
  }
  return rows * static_cast<int>(needs.windows.size()) + needs.focus_window;
}

float* RankExchange::WriteMeans(absl::Span<const float> means, int kv_head, int n,
                                float* to) const {
  const QueryHeads of_group = QueryHeadsOf(rank_, kv_head);
  const int num_rows = RowsOf(rank_, kv_head, GroupScore::kMean);
  float* const end = std::fill_n(to, static_cast<size_t>(num_rows) * n, 0.0f);
  for (int i = 0; i < of_group.count; ++i) {
    Add(means.data() + static_cast<size_t>(of_group.begin + i) * n, n,
        to + static_cast<size_t>(num_rows > 1 ? i : 0) * n);
  }
  return end;
}

float* RankExchange::WriteMaximum(absl::Span<const float> means, const RankScores& scores,
                                  int kv_head, float* to) const {
  const int n = scores.num_candidates;
  const size_t begin = static_cast<size_t>(kv_head - mine().first_kv_head) * n;
  float* const end = std::fill_n(to, n, 0.0f);
  if (!scores.reading_maxima.empty()) {
    Raise(scores.reading_maxima.data() + begin, n, to);
  } else {
    const QueryHeads of_group = QueryHeadsOf(rank_, kv_head);
    for (int i = 0; i < of_group.count; ++i) {
      Raise(means.data() + static_cast<size_t>(of_group.begin + i) * n, n, to);
    }
  }
  for (int t = 0; t < n; ++t) to[t] *= scores.value_norms[begin + t];
  return end;
}

float* RankExchange::WriteRows(const ScoreNeeds& needs, const RankScores& scores, float* to) const {
  for (const absl::Span<const float> means : scores.query_head_means) {
    for (int i = 0; i < mine().num_kv_heads; ++i) {
      const int kv_head = mine().first_kv_head + i;
      if (needs.group_score == GroupScore::kMean) {
        to = WriteMeans(means, kv_head, scores.num_candidates, to);
      } else if (needs.group_score == GroupScore::kWeightedMaximum) {
        to = WriteMaximum(means, scores, kv_head, to);
      }
    }
  }
  return std::copy(scores.maxima.begin(), scores.maxima.end(), to);
}

void RankExchange::ReadRows(const ScoreNeeds& needs, int n, size_t stride) {
  const size_t layer_size = static_cast<size_t>(num_kv_heads_) * n;
  joined_.resize(needs.windows.size());
  for (std::vector<float>& window : joined_) window.assign(layer_size, 0.0f);
  std::vector<float> largest(static_cast<size_t>(needs.focus_window) * n, 0.0f);
  for (int rank = 0; rank < num_ranks(); ++rank) {
    const float* from = rows_.data() + stride * static_cast<size_t>(rank);
    for (std::vector<float>& window : joined_) {
      for (int i = 0; i < heads_[rank].num_kv_heads; ++i) {
        const int kv_head = heads_[rank].first_kv_head + i;
        float* const to = window.data() + static_cast<size_t>(kv_head) * n;
        for (int row = RowsOf(rank, kv_head, needs.group_score); row > 0; --row, from += n) {
          if (needs.group_score == GroupScore::kMean) {
            Add(from, n, to);
          } else {
            Raise(from, n, to);
          }
        }
      }
    }
    for (int query = 0; query < needs.focus_window; ++query, from += n) {
      Raise(from, n, largest.data() + static_cast<size_t>(query) * n);
    }
  }
  if (needs.group_score == GroupScore::kMean) {
    for (std::vector<float>& window : joined_) {
      for (float& value : window) value /= static_cast<float>(group_size_);
    }
  }
  focus_.assign(needs.focus_window > 0 ? n : 0, 0.0f);
  for (int query = 0; query < needs.focus_window; ++query) {
    Add(largest.data() + static_cast<size_t>(query) * n, n, focus_.data());
  }
  for (float& value : focus_) value /= static_cast<float>(needs.focus_window);
}

absl::StatusOr<LayerScores> RankExchange::Join(const ScoreNeeds& needs, const RankScores& mine) {
  const int n = mine.num_candidates;
  int num_rows = 0;
  for (int rank = 0; rank < num_ranks(); ++rank) {
    num_rows = std::max(num_rows, NumRows(rank, needs));
  }
  const size_t stride = static_cast<size_t>(num_rows) * n;
  rows_.resize(stride * heads_.size());
  float* const begin = rows_.data() + stride * static_cast<size_t>(rank_);
  // Ranks with fewer rows fill up with zeros.
  std::fill(WriteRows(needs, mine, begin), begin + stride, 0.0f);
  KVEC_RETURN_IF_ERROR(
      AllGather({reinterpret_cast<uint8_t*>(rows_.data()), rows_.size() * sizeof(float)}));
  ReadRows(needs, n, stride);

  LayerScores scores;
  scores.num_candidates = n;
  scores.num_kv_heads = num_kv_heads_;
  if (needs.group_score != GroupScore::kNone) {
    for (const std::vector<float>& window : joined_) scores.heads.push_back(window);
  }
  scores.focus = focus_;
  return scores;
}

absl::StatusOr<std::vector<std::vector<int32_t>>> RankExchange::JoinPositions(
    absl::Span<const std::vector<int32_t>> mine, int num_tokens) {
  const size_t bitmap_bytes = BitmapBytes(num_tokens);
  int max_heads = 0;
  for (const RankHeads& of_rank : heads_) max_heads = std::max(max_heads, of_rank.num_kv_heads);
  std::vector<uint8_t> all(bitmap_bytes * static_cast<size_t>(max_heads) * heads_.size(), 0);
  const auto bitmap = [&](int rank, int index) {
    const size_t begin = (static_cast<size_t>(rank) * max_heads + index) * bitmap_bytes;
    return absl::MakeSpan(all).subspan(begin, bitmap_bytes);
  };
  for (size_t i = 0; i < mine.size(); ++i) {
    const absl::Span<uint8_t> bits = bitmap(rank_, static_cast<int>(i));
    for (int32_t position : mine[i]) {
      bits[position / 8] = static_cast<uint8_t>(bits[position / 8] | 1 << position % 8);
    }
  }
  KVEC_RETURN_IF_ERROR(AllGather(absl::MakeSpan(all)));
  std::vector<std::vector<int32_t>> positions;
  for (int kv_head = 0; kv_head < num_kv_heads_; ++kv_head) {
    int rank = 0;  // the first that holds it: whoever else does has chosen alike
    while (!Holds(rank, kv_head)) ++rank;
    positions.push_back(
        PositionsIn(bitmap(rank, kv_head - heads_[rank].first_kv_head), num_tokens));
  }
  return positions;
}

absl::Status RankExchange::AllGather(absl::Span<uint8_t> all) {
  if (num_ranks() == 1 || all.empty()) return absl::OkStatus();
  const absl::Time begin = absl::Now();
  const size_t mine_bytes = all.size() / heads_.size();
  const trace::ScopedSpan span("exchange");
  sent_bytes_ += mine_bytes * (heads_.size() - 1);
  const absl::Status status =
      ranks_->AllGather(all.subspan(mine_bytes * static_cast<size_t>(rank_), mine_bytes), all);
  duration_ += absl::Now() - begin;
  return status;
}

}  // namespace kvec::worker::eviction
