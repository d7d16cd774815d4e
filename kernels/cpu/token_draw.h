#ifndef KVEC_KERNELS_CPU_TOKEN_DRAW_H_
#define KVEC_KERNELS_CPU_TOKEN_DRAW_H_

#include <cstdint>

#include "absl/types/span.h"
#include "kernels/sampling.h"

namespace kvec::kernels::cpu {

// Temperature, top_k, top_p, min_p and the draw. `max` is the largest of the adjusted
// logits[vocab], and finite; temperature is not 0.
int32_t DrawToken(const SampleRequest& request, absl::Span<const float> logits, float max);

}  // namespace kvec::kernels::cpu

#endif  // KVEC_KERNELS_CPU_TOKEN_DRAW_H_
