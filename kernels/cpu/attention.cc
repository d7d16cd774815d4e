#include "kernels/cpu/attention.h"

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "kernels/attention_checks.h"
#include "kernels/cpu/attention_inputs.h"
#include "kernels/cpu/decode_attention.h"
#include "kernels/cpu/prefill_attention.h"

namespace kvec::kernels::cpu {

absl::Status Attention(ThreadPool& pool, Tensor qkv, const HeadShape& shape,
                       const AttentionBatch& batch, const CpuKvArena& arena, Tensor out) {
  KVEC_RETURN_IF_ERROR(CheckAttentionBatch(qkv, shape, batch, arena));
  if (out.rows != qkv.rows || out.cols != shape.num_heads * shape.head_dim) {
    return absl::InternalError(absl::StrCat("attention: out is [", out.rows, ", ", out.cols,
                                            "], not [", qkv.rows, ", ",
                                            shape.num_heads * shape.head_dim, "]"));
  }
  constexpr float kLog2E = 1.4426950408889634f;
  const AttentionInputs inputs{.qkv = qkv,
                               .shape = shape,
                               .sliding_window = batch.sliding_window,
                               .log2_scale = batch.scale * kLog2E,
                               .arena = &arena,
                               .out = out};
  PrefillAttention(pool, inputs, batch.sequences);
  DecodeAttention(pool, inputs, batch.sequences);
  return absl::OkStatus();
}

}  // namespace kvec::kernels::cpu
