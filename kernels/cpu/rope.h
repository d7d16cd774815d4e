#ifndef KVEC_KERNELS_CPU_ROPE_H_
#define KVEC_KERNELS_CPU_ROPE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/model/model_config.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/tensor.h"

namespace kvec::kernels::cpu {

// out[m, head_dim] = cosines, then sines, of every rotated pair's angle at positions[m], computed
// in double precision: a float32 product loses the angle at position 100,000. INTERNAL when the
// shapes do not fit.
absl::Status RopeAngles(ThreadPool& pool, absl::Span<const int32_t> positions,
                        const RopeConfig& rope, Tensor out);

// Turns the query and key heads of qkv[m, shape.qkv_cols()] in place by angles[m, head_dim],
// normalising them first where norm has weights. INTERNAL when the shapes do not fit.
absl::Status NormAndRotate(ThreadPool& pool, Tensor qkv, const HeadShape& shape, const QkNorm& norm,
                           Tensor angles, RopePairing pairing);

}  // namespace kvec::kernels::cpu

#endif  // KVEC_KERNELS_CPU_ROPE_H_
