#include "tests/kernels/cuda/stand_in_cublas_lt.h"

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
  if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  return Make(operation, Operation());
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

bool Fit(const Layout& a, const Layout& b, const Layout& d) {
  return a.type == CUDA_R_16BF && b.type == CUDA_R_16BF && d.type == CUDA_R_32F &&
         a.rows == b.rows && d.rows == a.cols && d.cols == b.cols;
}

cublasStatus_t GetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t a,
                            cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t,
                            cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t preference,
                            int num_wanted, cublasLtMatmulHeuristicResult_t* results,
                            int* num_results) {
  if (num_wanted < 1 || !Fit(*As<Layout>(a), *As<Layout>(b), *As<Layout>(d))) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  ++num_choices;
  constexpr uint64_t kFewRows = 16;
  const bool may_split =
      As<Preference>(preference)->reduction_schemes != CUBLASLT_REDUCTION_SCHEME_NONE;
  const Algorithm algorithm{may_split && As<Layout>(b)->cols < kFewRows ? uint64_t{4} : 1};
  results[0] = {};
  std::memcpy(&results[0].algo, &algorithm, sizeof(algorithm));
  *num_results = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CheckAlgorithm(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t a,
                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t,
                              cublasLtMatrixLayout_t d, const cublasLtMatmulAlgo_t*,
                              cublasLtMatmulHeuristicResult_t* result) {
  *result = {};
  return Fit(*As<Layout>(a), *As<Layout>(b), *As<Layout>(d)) ? CUBLAS_STATUS_SUCCESS
                                                             : CUBLAS_STATUS_NOT_SUPPORTED;
}

// In columns: d[m, n] = aᵀ[k, m] · b[k, n].
cublasStatus_t MatMul(cublasLtHandle_t, cublasLtMatmulDesc_t described, const void*, const void* a,
                      cublasLtMatrixLayout_t a_layout, const void* b,
                      cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                      cublasLtMatrixLayout_t, void* d, cublasLtMatrixLayout_t d_layout,
                      const cublasLtMatmulAlgo_t* chosen, void*, size_t, cudaStream_t stream) {
  Algorithm algorithm;
  std::memcpy(&algorithm, chosen, sizeof(algorithm));
  const Operation operation = *As<Operation>(described);
  if (!operation.transposes_a || algorithm.num_parts == 0 || c != d) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  const Layout of_a = *As<Layout>(a_layout);
  const Layout of_b = *As<Layout>(b_layout);
  const Layout of_d = *As<Layout>(d_layout);
  const float scale = *static_cast<const float*>(beta);
  (void)cusim::PushWork(stream, [=] {
    const auto* const weights = static_cast<const uint16_t*>(a);
    const auto* const inputs = static_cast<const uint16_t*>(b);
    auto* const outputs = static_cast<float*>(d);
    for (uint64_t col = 0; col < of_d.cols; ++col) {
      for (uint64_t row = 0; row < of_d.rows; ++row) {
        float sum = 0;
        for (uint64_t part = 0; part < algorithm.num_parts; ++part) {
          float part_sum = 0;
          const uint64_t end = of_a.rows * (part + 1) / algorithm.num_parts;
          for (uint64_t k = of_a.rows * part / algorithm.num_parts; k < end; ++k) {
            part_sum += BFloat16ToFloat(weights[row * static_cast<uint64_t>(of_a.stride) + k]) *
                        BFloat16ToFloat(inputs[col * static_cast<uint64_t>(of_b.stride) + k]);
          }
          sum += part_sum;
        }
        if (operation.has_bias) sum += operation.bias[row];
        float& output = outputs[col * static_cast<uint64_t>(of_d.stride) + row];
        output = scale == 0 ? sum : sum + scale * output;
      }
    }
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
