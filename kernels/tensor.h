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

  Tensor Rows(int begin, int count) const { return {data + begin * stride, count, cols, stride}; }
};

// The numbers in which a device multiplies.
enum class NumberType : uint8_t { kF32, kBF16 };

inline size_t NumberBytes(NumberType type) { return type == NumberType::kF32 ? 4 : 2; }

// A view of a row-major matrix in a device's memory that weights are multiplied with. Its numbers
// are of the device's Device::input_type(), so that who writes them rounds them, and the product
// need not.
struct ProductInput {
  void* data = nullptr;
  NumberType type = NumberType::kF32;
  int rows = 0;
  int cols = 0;
  int64_t stride = 0;  // numbers from row to row

  static ProductInput Of(Tensor x) { return {x.data, NumberType::kF32, x.rows, x.cols, x.stride}; }
  // Of kF32.
  Tensor tensor() const { return {static_cast<float*>(data), rows, cols, stride}; }

  ProductInput Rows(int begin, int count) const {
    return {At(begin * stride), type, count, cols, stride};
  }
  ProductInput Columns(int begin, int count) const {
    return {At(begin), type, rows, count, stride};
  }

 private:
  void* At(int64_t number) const {
    return static_cast<uint8_t*>(data) + number * static_cast<int64_t>(NumberBytes(type));
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
