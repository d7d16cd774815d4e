#ifndef KVEC_KERNELS_TENSOR_H_
#define KVEC_KERNELS_TENSOR_H_

#include <cstddef>
#include <cstdint>

namespace kvec::kernels {

// Memory of a device; freed with the object.
class DeviceMemory {
 public:
  virtual ~DeviceMemory() = default;
  virtual void* data() = 0;
  virtual size_t bytes() const = 0;
};

// A view of a row-major float32 matrix in a device's memory: activations between operations.
struct Tensor {
  float* data = nullptr;
  int rows = 0;
  int cols = 0;
  int64_t stride = 0;  // floats from row to row

  Tensor Rows(int begin, int count) const {
    return {data + begin * stride, count, cols, stride};
  }
};

// The heads inside a row of a qkv tensor: queries first, then keys, then values; num_heads +
// 2 num_kv_heads heads of head_dim. A rank may hold a part of the model's heads, so that its first
// group is cut: 9 query heads on 2 ranks are 5 (groups of 3 and 2) and 4 (groups of 1 and 3).
struct HeadShape {
  int num_heads = 0;     // query heads of this rank
  int num_kv_heads = 0;  // KV heads of this rank
  int head_dim = 0;
  int group_size = 0;    // query heads per KV head in the whole model
  int group_offset = 0;  // query heads of the first group that another rank holds

  int KvHeadOf(int head) const { return (head + group_offset) / group_size; }
  int qkv_cols() const { return (num_heads + 2 * num_kv_heads) * head_dim; }
};

// RMSNorm of each query and key head before rotary embedding (qwen3, gemma3).
struct QkNorm {
  const float* q_weight = nullptr;  // [head_dim]; null: none
  const float* k_weight = nullptr;  // [head_dim]
  float eps = 0;
};

}  // namespace kvec::kernels

#endif  // KVEC_KERNELS_TENSOR_H_
