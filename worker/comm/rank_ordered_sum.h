#ifndef KVEC_WORKER_COMM_RANK_ORDERED_SUM_H_
#define KVEC_WORKER_COMM_RANK_ORDERED_SUM_H_

#include <cstddef>

#include "absl/types/span.h"

namespace kvec::worker::comm {

// sum[n] = ((parts[0] + parts[1]) + parts[2]) + …, so that every rank that adds the same parts has
// the same bits. `sum` may be one of the parts.
void SumInRankOrder(absl::Span<const float* const> parts, absl::Span<float> sum);

}  // namespace kvec::worker::comm

#endif  // KVEC_WORKER_COMM_RANK_ORDERED_SUM_H_
