#ifndef KVEC_KERNELS_CPU_ATTENTION_INPUTS_H_
#define KVEC_KERNELS_CPU_ATTENTION_INPUTS_H_

#include "kernels/attention_batch.h"
#include "kernels/cpu/cpu_kv_arena.h"
#include "kernels/tensor.h"

namespace kvec::kernels::cpu {

// What the kernels of both roles read and write; checked by Attention.
struct AttentionInputs {
  Tensor qkv;
  HeadShape shape;
  int sliding_window;  // 0: none
  float log2_scale;    // of q·k, times log2(e): the softmax is taken to base 2
  const CpuKvArena* arena;
  Tensor out;  // [m, num_heads · head_dim]
};

}  // namespace kvec::kernels::cpu

#endif  // KVEC_KERNELS_CPU_ATTENTION_INPUTS_H_
