#include "kernels/cuda/choice_rows.h"

#include <algorithm>
#include <cstddef>
#include <variant>

namespace kvec::kernels::cuda {
namespace {

// The rows of one rank: their joined rows, and the rank's own rows of means.
struct RankRows {
  std::vector<int32_t> joined_by;
  std::vector<RowRun> own;
};

RankRows RowsOf(const ChoicePlan& plan, const RankHeadRange& rank, int num_kv_heads) {
  RankRows rows;
  const bool has_rows = !std::holds_alternative<RecencyRules>(plan.rules.score);
  const bool adds = std::holds_alternative<PoolRules>(plan.rules.score);
  const int group_size = plan.shape.group_size;
  for (int window = 0; has_rows && window < plan.num_windows; ++window) {
    for (int head = rank.first_kv_head; head < rank.first_kv_head + rank.num_kv_heads; ++head) {
      const int begin = std::max(rank.first_head, head * group_size);
      const int end = std::min(rank.first_head + rank.num_heads, (head + 1) * group_size);
      const bool is_shared = end - begin < group_size;
      const int run = adds && is_shared ? 1 : end - begin;
      for (int first = begin; first < end; first += run) {
        rows.joined_by.push_back(window * num_kv_heads + head);
        rows.own.push_back({window * rank.num_heads + first - rank.first_head, run});
      }
    }
  }
  for (int query = 0; query < plan.focus_window; ++query) {
    rows.joined_by.push_back(plan.num_windows * num_kv_heads + query);
  }
  return rows;
}

}  // namespace

int NumKvHeads(const ChoicePlan& plan) {
  int num_kv_heads = 0;
  for (const RankHeadRange& rank : plan.ranks) {
    num_kv_heads = std::max(num_kv_heads, rank.first_kv_head + rank.num_kv_heads);
  }
  return num_kv_heads;
}

ChoiceRows::ChoiceRows(const ChoicePlan& plan) {
  const int num_kv_heads = NumKvHeads(plan);
  std::vector<RankRows> of_ranks;
  size_t most = 0;
  for (const RankHeadRange& rank : plan.ranks) {
    of_ranks.push_back(RowsOf(plan, rank, num_kv_heads));
    most = std::max(most, of_ranks.back().joined_by.size());
  }
  for (RankRows& rows : of_ranks) {
    rows.joined_by.resize(most, -1);
    joined_by.insert(joined_by.end(), rows.joined_by.begin(), rows.joined_by.end());
  }
  own = of_ranks[static_cast<size_t>(plan.rank)].own;
  rows_per_rank = static_cast<int>(most);
  const bool has_rows = !std::holds_alternative<RecencyRules>(plan.rules.score);
  const bool adds = std::holds_alternative<PoolRules>(plan.rules.score);
  num_summed = adds ? plan.num_windows * num_kv_heads : 0;
  num_joined = (has_rows ? plan.num_windows * num_kv_heads : 0) + plan.focus_window;
}

}  // namespace kvec::kernels::cuda
