#ifndef KVEC_KERNELS_CPU_PARALLEL_ROWS_H_
#define KVEC_KERNELS_CPU_PARALLEL_ROWS_H_

#include <algorithm>

#include "absl/functional/function_ref.h"
#include "kernels/cpu/thread_pool.h"

namespace kvec::kernels::cpu {

// Below this many rows (one decode token of a few sequences) waking threads costs more than the row
// operations themselves.
inline constexpr int kInlineRows = 4;

// Calls fn(begin, end) for pieces that cover rows 0 … num_rows - 1, on the pool's threads when
// there are many.
inline void ParallelRows(ThreadPool& pool, int num_rows,
                         absl::FunctionRef<void(int begin, int end)> fn) {
  if (num_rows <= kInlineRows || pool.num_threads() == 1) {
    if (num_rows > 0) fn(0, num_rows);
    return;
  }
  constexpr int kPiecesPerThread = 4;  // a thread that starts late finds less to do
  const int pieces = std::min(num_rows, pool.num_threads() * kPiecesPerThread);
  const int rows_per_piece = (num_rows + pieces - 1) / pieces;
  pool.ParallelFor((num_rows + rows_per_piece - 1) / rows_per_piece, [&](int piece) {
    const int begin = piece * rows_per_piece;
    fn(begin, std::min(num_rows, begin + rows_per_piece));
  });
}

}  // namespace kvec::kernels::cpu

#endif  // KVEC_KERNELS_CPU_PARALLEL_ROWS_H_
