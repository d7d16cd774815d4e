#ifndef KVEC_KERNELS_CPU_EMBEDDING_H_
#define KVEC_KERNELS_CPU_EMBEDDING_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/device.h"
#include "kernels/tensor.h"

namespace kvec::kernels::cpu {

// out[m, hidden] = scale · row ids[m] of the table, which is decoded where it lies.
// INVALID_ARGUMENT for an id that the table has not, and for shapes that do not fit.
absl::Status EmbeddingLookup(ThreadPool& pool, const WeightSource& table,
                             absl::Span<const int32_t> ids, float scale, Tensor out);

}  // namespace kvec::kernels::cpu

#endif  // KVEC_KERNELS_CPU_EMBEDDING_H_
