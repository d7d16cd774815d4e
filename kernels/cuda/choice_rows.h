#ifndef KVEC_KERNELS_CUDA_CHOICE_ROWS_H_
#define KVEC_KERNELS_CUDA_CHOICE_ROWS_H_

#include <cstdint>
#include <vector>

#include "kernels/cuda/score_rows.h"
#include "kernels/entry_chooser.h"

namespace kvec::kernels::cuda {

// The rows of numbers of candidates that ranks tell each other of a layer, see RankWeights, and
// what becomes of them: joined rows, of window after window each KV head's, [num_windows, G], then
// of the focus window each query's. Of one rank its rows are the joined ones.
struct ChoiceRows {
  ChoiceRows() = default;
  explicit ChoiceRows(const ChoicePlan& plan);

  int rows_per_rank = 0;
  int num_summed = 0;  // joined rows that are sums of ranks' rows; the others are maxima
  int num_joined = 0;
  std::vector<int32_t> joined_by;  // [ranks, rows_per_rank]: the joined row of each; -1: none
  // Of this rank's rows but for the focus window's: the rows of its means, [num_windows,
  // num_heads], that each is made of.
  std::vector<RowRun> own;
};

// G, of all ranks.
int NumKvHeads(const ChoicePlan& plan);

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_CHOICE_ROWS_H_
