#include "tests/kernels/cuda/stand_in_cublas_lt.h"

#include <cuda_fp8.h>

#include <cstdint>
#include <cstring>

#include "common/tensor/float_conversions.h"
#include "kernels/cuda/cublas_lt_library.h"
#include "tests/cusim/cusim.h"

namespace kvec::kernels::cuda {
namespace {

int num_choices = 0;
int num_objects = 0;

struct Operation {
  cublasComputeType_t compute;
  bool transposes_a = false;
  bool has_bias = false;
  const float* bias = nullptr;
};

struct Layout {
  cudaDataType_t type;
  uint64_t rows;
  uint64_t cols;
  int64_t stride;
};

struct Preference {
  uint64_t workspace_bytes = 0;
  uint32_t reduction_schemes = CUBLASLT_REDUCTION_SCHEME_MASK;
};

// What an algorithm is, inside cublasLtMatmulAlgo_t.
struct Algorithm {
  uint64_t num_parts;  // of K
};
static_assert(sizeof(Algorithm) <= sizeof(cublasLtMatmulAlgo_t));

// Handles are pointers to types of the library's own; ours are other ones.
template <typename To, typename From>
To* As(From* object) {
  return reinterpret_cast<To*>(object);
}

template <typename T, typename Handle>
cublasStatus_t Make(Handle* handle, T object) {
  *handle = reinterpret_cast<Handle>(new T(object));
  ++num_objects;
  return CUBLAS_STATUS_SUCCESS;
}

template <typename T, typename Handle>
cublasStatus_t Destroy(Handle handle) {
  delete reinterpret_cast<T*>(handle);
  --num_objects;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CreateHandle(cublasLtHandle_t* handle) { return Make(handle, 0); }
cublasStatus_t DestroyHandle(cublasLtHandle_t handle) { return Destroy<int>(handle); }

cublasStatus_t CreateOperation(cublasLtMatmulDesc_t* operation, cublasComputeType_t compute,
                               cudaDataType_t scale) {
  const bool is_known = (compute == CUBLAS_COMPUTE_32F && scale == CUDA_R_32F) ||
                        (compute == CUBLAS_COMPUTE_32I && scale == CUDA_R_32I);
  if (!is_known) return CUBLAS_STATUS_NOT_SUPPORTED;
  return Make(operation, Operation{compute});
}
cublasStatus_t DestroyOperation(cublasLtMatmulDesc_t operation) {
  return Destroy<Operation>(operation);
}

cublasStatus_t SetOperation(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t name,
                            const void* value, size_t bytes) {
  Operation& set = *As<Operation>(operation);
  if (name == CUBLASLT_MATMUL_DESC_TRANSA && bytes == sizeof(cublasOperation_t)) {
    set.transposes_a = *static_cast<const cublasOperation_t*>(value) == CUBLAS_OP_T;
  } else if (name == CUBLASLT_MATMUL_DESC_EPILOGUE && bytes == sizeof(cublasLtEpilogue_t)) {
    set.has_bias = *static_cast<const cublasLtEpilogue_t*>(value) == CUBLASLT_EPILOGUE_BIAS;
  } else if (name == CUBLASLT_MATMUL_DESC_BIAS_POINTER && bytes == sizeof(void*)) {
    std::memcpy(&set.bias, value, bytes);
  } else {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CreateLayout(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows,
                            uint64_t cols, int64_t stride) {
  if (stride < static_cast<int64_t>(rows)) return CUBLAS_STATUS_INVALID_VALUE;
  return Make(layout, Layout{type, rows, cols, stride});
}
cublasStatus_t DestroyLayout(cublasLtMatrixLayout_t layout) { return Destroy<Layout>(layout); }

cublasStatus_t CreatePreference(cublasLtMatmulPreference_t* preference) {
  return Make(preference, Preference());
}
cublasStatus_t DestroyPreference(cublasLtMatmulPreference_t preference) {
  return Destroy<Preference>(preference);
}

cublasStatus_t SetPreference(cublasLtMatmulPreference_t preference,
                             cublasLtMatmulPreferenceAttributes_t name, const void* value,
                             size_t bytes) {
  Preference& set = *As<Preference>(preference);
  if (name == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES && bytes == sizeof(uint64_t)) {
    std::memcpy(&set.workspace_bytes, value, bytes);
  } else if (name == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK && bytes == sizeof(uint32_t)) {
    std::memcpy(&set.reduction_schemes, value, bytes);
  } else {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  return CUBLAS_STATUS_SUCCESS;
}

constexpr uint64_t kTooFewInt8Rows = 16;

bool IsMultiple(uint64_t number, uint64_t of) { return number % of == 0; }

// Shapes, and for numbers of 8 bits what the library's documentation asks of them, and more rows in
// int8 than it has algorithms for.
bool Fit(const Operation& operation, const Layout& a, const Layout& b, const Layout& d) {
  if (a.type != b.type || a.rows != b.rows || d.rows != a.cols || d.cols != b.cols) return false;
  const bool is_whole = operation.compute == CUBLAS_COMPUTE_32I;
  if (d.type != (is_whole ? CUDA_R_32I : CUDA_R_32F)) return false;
  switch (a.type) {
    case CUDA_R_16BF:
      return !is_whole;
    case CUDA_R_8I:
      return is_whole && !operation.has_bias && b.cols > kTooFewInt8Rows && IsMultiple(a.rows, 4) &&
             IsMultiple(a.cols, 4) &&
             IsMultiple(static_cast<uint64_t>(a.stride | b.stride | d.stride), 4);
    case CUDA_R_8F_E4M3:
      return !is_whole && !operation.has_bias && IsMultiple(a.rows, 16) && IsMultiple(a.cols, 16) &&
             IsMultiple(static_cast<uint64_t>(a.stride | b.stride | d.stride), 16);
    default:
      return false;
  }
}

cublasStatus_t GetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t operation,
                            cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                            cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d,
                            cublasLtMatmulPreference_t preference, int num_wanted,
                            cublasLtMatmulHeuristicResult_t* results, int* num_results) {
  if (num_wanted < 1 ||
      !Fit(*As<Operation>(operation), *As<Layout>(a), *As<Layout>(b), *As<Layout>(d))) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  ++num_choices;
  constexpr uint64_t kFewRows = 48;
  const bool may_split =
      As<Preference>(preference)->reduction_schemes != CUBLASLT_REDUCTION_SCHEME_NONE;
  const Algorithm algorithm{may_split && As<Layout>(b)->cols < kFewRows ? uint64_t{4} : 1};
  results[0] = {};
  std::memcpy(&results[0].algo, &algorithm, sizeof(algorithm));
  *num_results = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CheckAlgorithm(cublasLtHandle_t, cublasLtMatmulDesc_t operation,
                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d,
                              const cublasLtMatmulAlgo_t*,
                              cublasLtMatmulHeuristicResult_t* result) {
  *result = {};
  return Fit(*As<Operation>(operation), *As<Layout>(a), *As<Layout>(b), *As<Layout>(d))
             ? CUBLAS_STATUS_SUCCESS
             : CUBLAS_STATUS_NOT_SUPPORTED;
}

float Read(const uint16_t* number) { return BFloat16ToFloat(*number); }
int32_t Read(const int8_t* number) { return *number; }
float Read(const __nv_fp8_e4m3* number) { return static_cast<float>(*number); }

// A product as it is queued; the objects that describe it may be gone when it runs.
struct Product {
  Operation operation;
  Algorithm algorithm;
  const void* a;
  Layout of_a;
  const void* b;
  Layout of_b;
  void* d;
  Layout of_d;
};

// In columns: d[m, n] = aᵀ[k, m] · b[k, n].
template <typename Number, typename Sum>
void Run(const Product& p, Sum scale) {
  const auto* const weights = static_cast<const Number*>(p.a);
  const auto* const inputs = static_cast<const Number*>(p.b);
  auto* const outputs = static_cast<Sum*>(p.d);
  const uint64_t num_parts = p.algorithm.num_parts;
  for (uint64_t col = 0; col < p.of_d.cols; ++col) {
    for (uint64_t row = 0; row < p.of_d.rows; ++row) {
      Sum sum = 0;
      for (uint64_t part = 0; part < num_parts; ++part) {
        Sum part_sum = 0;
        const uint64_t end = p.of_a.rows * (part + 1) / num_parts;
        for (uint64_t k = p.of_a.rows * part / num_parts; k < end; ++k) {
          part_sum += Read(weights + row * static_cast<uint64_t>(p.of_a.stride) + k) *
                      Read(inputs + col * static_cast<uint64_t>(p.of_b.stride) + k);
        }
        sum += part_sum;
      }
      if (p.operation.has_bias) sum += static_cast<Sum>(p.operation.bias[row]);
      Sum& output = outputs[col * static_cast<uint64_t>(p.of_d.stride) + row];
      output = scale == 0 ? sum : sum + scale * output;
    }
  }
}

bool IsAligned(const void* pointer) { return IsMultiple(reinterpret_cast<uintptr_t>(pointer), 16); }

cublasStatus_t MatMul(cublasLtHandle_t, cublasLtMatmulDesc_t described, const void*, const void* a,
                      cublasLtMatrixLayout_t a_layout, const void* b,
                      cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                      cublasLtMatrixLayout_t, void* d, cublasLtMatrixLayout_t d_layout,
                      const cublasLtMatmulAlgo_t* chosen, void*, size_t, cudaStream_t stream) {
  Product product{
      *As<Operation>(described), {}, a, *As<Layout>(a_layout), b, *As<Layout>(b_layout), d,
      *As<Layout>(d_layout)};
  std::memcpy(&product.algorithm, chosen, sizeof(product.algorithm));
  if (!product.operation.transposes_a || product.algorithm.num_parts == 0 || c != d ||
      !Fit(product.operation, product.of_a, product.of_b, product.of_d)) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  if (product.of_a.type != CUDA_R_16BF && !(IsAligned(a) && IsAligned(b) && IsAligned(d))) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  if (product.of_a.type == CUDA_R_8I) {
    const int32_t scale = *static_cast<const int32_t*>(beta);
    (void)cusim::PushWork(stream, [=] { Run<int8_t, int32_t>(product, scale); });
    return CUBLAS_STATUS_SUCCESS;
  }
  const float scale = *static_cast<const float*>(beta);
  (void)cusim::PushWork(stream, [=] {
    if (product.of_a.type == CUDA_R_16BF) return Run<uint16_t, float>(product, scale);
    Run<__nv_fp8_e4m3, float>(product, scale);
  });
  return CUBLAS_STATUS_SUCCESS;
}

const char* GetStatusName(cublasStatus_t status) {
  return status == CUBLAS_STATUS_NOT_SUPPORTED ? "CUBLAS_STATUS_NOT_SUPPORTED" : "another status";
}

}  // namespace

absl::StatusOr<const CublasLtLibrary*> CublasLtLibrary::Open() {
  static const CublasLtLibrary library = {.create = CreateHandle,
                                          .destroy = DestroyHandle,
                                          .matmul = MatMul,
                                          .get_heuristic = GetHeuristic,
                                          .check_algorithm = CheckAlgorithm,
                                          .create_operation = CreateOperation,
                                          .destroy_operation = DestroyOperation,
                                          .set_operation_attribute = SetOperation,
                                          .create_layout = CreateLayout,
                                          .destroy_layout = DestroyLayout,
                                          .create_preference = CreatePreference,
                                          .destroy_preference = DestroyPreference,
                                          .set_preference_attribute = SetPreference,
                                          .get_status_name = GetStatusName};
  return &library;
}

int NumCublasLtChoices() { return num_choices; }
int NumCublasLtObjects() { return num_objects; }

}  // namespace kvec::kernels::cuda
