#include "worker/engine/second_reader.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace kvec::worker::engine {
namespace {

// Queries scored at a time: bounds the scores' memory.
constexpr int kTileQueries = 32;

}  // namespace

absl::Status SecondReader::CheckReading(const v1::SequenceReading& reading,
                                        const Sequence& sequence) const {
  const uint64_t end = uint64_t{reading.first_token()} + reading.num_tokens();
  if (sequence.query_window() != nullptr && reading.num_tokens() > 0 &&
      reading.num_tokens() <= static_cast<uint32_t>(transformer_.options().max_rows) &&
      end <= sequence.tokens().size() &&
      static_cast<int64_t>(sequence.tokens().size()) == sequence.next_position()) {
    return absl::OkStatus();
  }
  return absl::InternalError(absl::StrCat("sequence ", reading.sequence_id(),
                                          ": cannot read tokens ", reading.first_token(), " … ",
                                          end, " again, has ", sequence.tokens().size()));
}

absl::Status SecondReader::Read(const v1::SequenceReading& reading, Sequence& sequence) {
  KVEC_RETURN_IF_ERROR(CheckReading(reading, sequence));
  const int num_tokens = sequence.cache().num_tokens();
  const int num_rows = static_cast<int>(reading.num_tokens());
  std::vector<kernels::PageCopy> copies;
  KVEC_ASSIGN_OR_RETURN(const auto cache, sequence.cache().Fork(copies));
  KVEC_RETURN_IF_ERROR(device_.CopyPages(arena_, copies));
  KVEC_RETURN_IF_ERROR(cache->Append(num_rows));
  const auto chunk =
      absl::MakeConstSpan(sequence.tokens()).subspan(reading.first_token(), num_rows);
  KVEC_ASSIGN_OR_RETURN(const auto queries, Forward(chunk, num_tokens, *cache));
  std::vector<std::vector<float>>& maxima = sequence.reading_maxima();
  maxima.resize(shape_.num_layers());
  for (int layer = 0; layer < shape_.num_layers(); ++layer) {
    if (shape_.sliding_windows[layer] > 0) continue;
    maxima[layer].resize(static_cast<size_t>(heads_.num_kv_heads) * num_tokens);
    KVEC_RETURN_IF_ERROR(ScoreLayer(layer, *queries, num_tokens, *cache, maxima[layer]));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<cache::QueryWindow>> SecondReader::Forward(
    absl::Span<const int32_t> chunk, int num_tokens, const cache::SequenceCache& cache) {
  KVEC_ASSIGN_OR_RETURN(
      auto queries,
      cache::QueryWindow::Create(device_, {.num_layers = shape_.num_layers(),
                                           .query_cols = heads_.num_heads * heads_.head_dim,
                                           .capacity = static_cast<int>(chunk.size())}));
  model::TokenBatch batch;
  batch.token_ids.assign(chunk.begin(), chunk.end());
  batch.positions.resize(chunk.size());
  std::iota(batch.positions.begin(), batch.positions.end(), num_tokens);
  batch.sequences.push_back({0, batch.num_rows(), true, &cache, queries.get()});
  KVEC_RETURN_IF_ERROR(transformer_.Forward(
      batch, [](kernels::Tensor logits, int begin) { return absl::OkStatus(); }));
  return queries;
}

absl::Status SecondReader::ScoreLayer(int layer, const cache::QueryWindow& queries, int num_tokens,
                                      const cache::SequenceCache& cache,
                                      std::vector<float>& maxima) {
  const std::vector<int32_t> num_candidates(heads_.num_kv_heads, num_tokens);
  for (int begin = 0; begin < queries.capacity(); begin += kTileQueries) {
    const int count = std::min(kTileQueries, queries.capacity() - begin);
    std::vector<int32_t> num_visible;
    for (int head = 0; head < heads_.num_kv_heads; ++head) {
      for (int query = begin; query < begin + count; ++query) {
        num_visible.push_back(num_tokens + query + 1);
      }
    }
    kernels::WindowScoreRequest request;
    request.queries = queries.Layer(layer);
    request.first_query = queries.RowOf(num_tokens + begin);
    request.num_queries = count;
    request.heads = cache.Layer(layer);
    request.num_visible = num_visible;
    request.num_candidates = num_candidates;
    request.stride = num_tokens;
    request.scale = scale_;
    request.focus_window = count;
    tile_.resize(static_cast<size_t>(heads_.num_kv_heads) * count * num_tokens);
    request.maxima = tile_.data();
    KVEC_RETURN_IF_ERROR(device_.WindowScores(heads_, request, arena_));
    for (int row = 0; row < heads_.num_kv_heads * count; ++row) {
      const float* from = tile_.data() + static_cast<size_t>(row) * num_tokens;
      float* to = maxima.data() + static_cast<size_t>(row / count) * num_tokens;
      for (int t = 0; t < num_tokens; ++t) to[t] = std::max(to[t], from[t]);
    }
  }
  return absl::OkStatus();
}

}  // namespace kvec::worker::engine
