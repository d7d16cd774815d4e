#include "common/tensor/tensor_type.h"

#include <array>

namespace kvec {
namespace {

// In the order of TensorType. Bytes per block: ggml's block_q… structures, which have no padding.
constexpr std::array<TensorTypeTraits, 11> kTraits = {{
    {"F32", 1, 4},
    {"F16", 1, 2},
    {"BF16", 1, 2},
    {"Q4_0", 32, 18},
    {"Q4_1", 32, 20},
    {"Q5_0", 32, 22},
    {"Q5_1", 32, 24},
    {"Q8_0", 32, 34},
    {"Q4_K", 256, 144},
    {"Q5_K", 256, 176},
    {"Q6_K", 256, 210},
}};
static_assert(kTraits.size() == static_cast<size_t>(TensorType::kQ6_K) + 1);

}  // namespace

const TensorTypeTraits& GetTraits(TensorType type) { return kTraits[static_cast<size_t>(type)]; }

absl::string_view KnownTensorTypeNames() {
  return "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K";
}

}  // namespace kvec
