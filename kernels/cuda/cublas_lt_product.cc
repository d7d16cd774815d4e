// DenseProduct by cuBLASLt. It thinks in columns: our row-major y[m, out] is its matrix out × m, so
// that y = x · wᵀ reads as yᵀ = w · xᵀ.

#include <cublasLt.h>

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/status_macros.h"
#include "kernels/cuda/cublas_lt_library.h"
#include "kernels/cuda/cuda_buffer.h"
#include "kernels/cuda/dense_product.h"

namespace kvec::kernels::cuda {
namespace {

constexpr size_t kWorkspaceBytes = size_t{32} << 20;  // what NVIDIA recommends for Hopper

absl::Status ToStatus(const CublasLtLibrary& lt, cublasStatus_t status, absl::string_view call) {
  if (status == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("cuBLASLt ", call, ": ", lt.get_status_name(status)));
}

// What descriptors, and where nothing is pinned the choice of an algorithm, depend on. Rows of
// equal shape run alike.
struct ProductShape {
  WeightType type;
  int num_rows;
  int in_features;
  int out_features;
  int64_t stride;  // of y
  bool has_bias;
  bool accumulates;

  auto operator<=>(const ProductShape&) const = default;
};

// A product of a pinned algorithm has as many rows when the algorithm is chosen.
constexpr int kPinnedRows = 128;

// Of a weight: its type, [out_features, in_features], and whether it has a bias.
using WeightKey = std::tuple<WeightType, int, int, bool>;

struct ProductTypes {
  cudaDataType_t operands;
  cudaDataType_t result;
  cudaDataType_t factors;  // alpha and beta
  cublasComputeType_t compute;
};

ProductTypes TypesOf(WeightType type) {
  switch (type) {
    case WeightType::kInt8:
      return {CUDA_R_8I, CUDA_R_32I, CUDA_R_32I, CUBLAS_COMPUTE_32I};
    case WeightType::kFp8:  // with factors of 1 for whole tensors, as none are set
      return {CUDA_R_8F_E4M3, CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F};
    case WeightType::kBF16:
      break;
  }
  return {CUDA_R_16BF, CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F};
}

// In the GPU's memory.
struct ProductArrays {
  const void* weight;
  const void* x;
  const float* bias;
  void* y;
};

// A product's descriptors and its algorithm.
class Plan {
 public:
  explicit Plan(const CublasLtLibrary& lt) : lt_(lt) {}
  ~Plan() {
    for (cublasLtMatrixLayout_t layout : {weight_, x_, y_}) {
      if (layout != nullptr) (void)lt_.destroy_layout(layout);
    }
    if (operation_ != nullptr) (void)lt_.destroy_operation(operation_);
  }
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  // The bias only has to be one of those that there will be.
  absl::Status Describe(const ProductShape& shape, const float* bias) {
    const ProductTypes types = TypesOf(shape.type);
    KVEC_RETURN_IF_ERROR(ToStatus(
        lt_, lt_.create_operation(&operation_, types.compute, types.factors), "operation"));
    KVEC_RETURN_IF_ERROR(Set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T));
    if (shape.has_bias) {
      KVEC_RETURN_IF_ERROR(Set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS));
      KVEC_RETURN_IF_ERROR(Set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias));
    }
    const auto in = static_cast<uint64_t>(shape.in_features);
    const auto out = static_cast<uint64_t>(shape.out_features);
    const auto rows = static_cast<uint64_t>(shape.num_rows);
    KVEC_RETURN_IF_ERROR(Layout(types.operands, in, out, shape.in_features, weight_));
    KVEC_RETURN_IF_ERROR(Layout(types.operands, in, rows, shape.in_features, x_));
    return Layout(types.result, out, rows, shape.stride, y_);
  }

  // The one that cuBLASLt thinks best; of those that do not split K in kDeterministic.
  absl::Status Choose(cublasLtHandle_t handle, ProductMode mode) {
    cublasLtMatmulPreference_t preference = nullptr;
    KVEC_RETURN_IF_ERROR(ToStatus(lt_, lt_.create_preference(&preference), "preference"));
    cublasStatus_t status =
        lt_.set_preference_attribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                     &kWorkspaceBytes, sizeof(kWorkspaceBytes));
    if (status == CUBLAS_STATUS_SUCCESS && mode == ProductMode::kDeterministic) {
      // Parts of K could not be put together.
      const uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_NONE;
      status = lt_.set_preference_attribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                            &schemes, sizeof(schemes));
    }
    cublasLtMatmulHeuristicResult_t result = {};
    int num_results = 0;
    if (status == CUBLAS_STATUS_SUCCESS) {
      status = lt_.get_heuristic(handle, operation_, weight_, x_, y_, y_, preference, 1, &result,
                                 &num_results);
    }
    (void)lt_.destroy_preference(preference);
    KVEC_RETURN_IF_ERROR(ToStatus(lt_, status, "heuristic"));
    if (num_results == 0) return absl::InternalError("cuBLASLt has no algorithm for this shape");
    algorithm_ = result.algo;
    return absl::OkStatus();
  }

  // One that was chosen for another number of rows.
  absl::Status Adopt(cublasLtHandle_t handle, const cublasLtMatmulAlgo_t& algorithm) {
    cublasLtMatmulHeuristicResult_t result = {};
    KVEC_RETURN_IF_ERROR(ToStatus(
        lt_, lt_.check_algorithm(handle, operation_, weight_, x_, y_, y_, &algorithm, &result),
        "pinned algorithm"));
    if (result.workspaceSize > kWorkspaceBytes) {
      return absl::InternalError(absl::StrCat("cuBLASLt pinned algorithm: needs ",
                                              result.workspaceSize, " bytes of workspace"));
    }
    algorithm_ = algorithm;
    return absl::OkStatus();
  }

  const cublasLtMatmulAlgo_t& algorithm() const { return algorithm_; }

  absl::Status Run(cublasLtHandle_t handle, const ProductShape& shape, const ProductArrays& of,
                   void* workspace, cudaStream_t stream) {
    if (shape.has_bias) KVEC_RETURN_IF_ERROR(Set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, of.bias));
    if (shape.type == WeightType::kInt8) return Run<int32_t>(handle, shape, of, workspace, stream);
    return Run<float>(handle, shape, of, workspace, stream);
  }

 private:
  template <typename Factor>
  absl::Status Run(cublasLtHandle_t handle, const ProductShape& shape, const ProductArrays& of,
                   void* workspace, cudaStream_t stream) {
    const Factor alpha = 1;
    const Factor beta = shape.accumulates ? 1 : 0;
    return ToStatus(lt_,
                    lt_.matmul(handle, operation_, &alpha, of.weight, weight_, of.x, x_, &beta,
                               of.y, y_, of.y, y_, &algorithm_, workspace, kWorkspaceBytes, stream),
                    "matmul");
  }

  template <typename T>
  absl::Status Set(cublasLtMatmulDescAttributes_t attribute, T value) {
    return ToStatus(lt_, lt_.set_operation_attribute(operation_, attribute, &value, sizeof(value)),
                    "attribute");
  }

  absl::Status Layout(cudaDataType_t type, uint64_t rows, uint64_t cols, int64_t stride,
                      cublasLtMatrixLayout_t& layout) {
    return ToStatus(lt_, lt_.create_layout(&layout, type, rows, cols, stride), "layout");
  }

  const CublasLtLibrary& lt_;
  cublasLtMatmulDesc_t operation_ = nullptr;
  cublasLtMatrixLayout_t weight_ = nullptr;
  cublasLtMatrixLayout_t x_ = nullptr;
  cublasLtMatrixLayout_t y_ = nullptr;
  cublasLtMatmulAlgo_t algorithm_ = {};
};

class CublasLtProduct : public DenseProduct {
 public:
  CublasLtProduct(const CublasLtLibrary& lt, cublasLtHandle_t handle, cudaStream_t stream,
                  ProductMode mode, std::unique_ptr<CudaBuffer> workspace)
      : lt_(lt), handle_(handle), stream_(stream), mode_(mode), workspace_(std::move(workspace)) {}
  ~CublasLtProduct() override {
    plans_.clear();
    (void)lt_.destroy(handle_);
  }

  absl::Status Multiply(const DenseOperands& o) override {
    return Run({.type = WeightType::kBF16,
                .num_rows = o.y.rows,
                .in_features = o.in_features,
                .out_features = o.y.cols,
                .stride = o.y.stride,
                .has_bias = o.bias != nullptr,
                .accumulates = o.mode == MatMulMode::kAccumulate},
               {o.weight, o.x, o.bias, o.y.data});
  }

  absl::Status MultiplyEightBit(const EightBitOperands& o) override {
    return Run({.type = o.type,
                .num_rows = o.num_rows,
                .in_features = o.in_features,
                .out_features = o.out_features,
                .stride = o.out_features,
                .has_bias = false,
                .accumulates = false},
               {o.weight, o.x, nullptr, o.sums});
  }

 private:
  absl::Status Run(const ProductShape& shape, const ProductArrays& of) {
    auto plan = plans_.find(shape);
    if (plan == plans_.end()) {
      auto made = std::make_unique<Plan>(lt_);
      KVEC_RETURN_IF_ERROR(made->Describe(shape, of.bias));
      KVEC_RETURN_IF_ERROR(ChooseFor(shape, of.bias, *made));
      plan = plans_.emplace(shape, std::move(made)).first;
    }
    return plan->second->Run(handle_, shape, of, workspace_->data(), stream_);
  }

  absl::Status ChooseFor(const ProductShape& shape, const float* bias, Plan& plan) {
    // Whole numbers have one sum, in whatever order they are added.
    if (mode_ == ProductMode::kFastest || shape.type == WeightType::kInt8) {
      return plan.Choose(handle_, ProductMode::kFastest);
    }
    const WeightKey key(shape.type, shape.out_features, shape.in_features, shape.has_bias);
    auto pinned = pinned_.find(key);
    if (pinned == pinned_.end()) {
      ProductShape of_pinned = shape;
      of_pinned.num_rows = kPinnedRows;
      of_pinned.stride = shape.out_features;
      Plan chosen(lt_);
      KVEC_RETURN_IF_ERROR(chosen.Describe(of_pinned, bias));
      KVEC_RETURN_IF_ERROR(chosen.Choose(handle_, mode_));
      pinned = pinned_.emplace(key, chosen.algorithm()).first;
    }
    return plan.Adopt(handle_, pinned->second);
  }

  const CublasLtLibrary& lt_;
  const cublasLtHandle_t handle_;
  const cudaStream_t stream_;
  const ProductMode mode_;
  const std::unique_ptr<CudaBuffer> workspace_;
  std::map<ProductShape, std::unique_ptr<Plan>> plans_;
  std::map<WeightKey, cublasLtMatmulAlgo_t> pinned_;  // of kDeterministic
};

}  // namespace

absl::StatusOr<std::unique_ptr<DenseProduct>> CreateDenseProduct(cudaStream_t stream,
                                                                 ProductMode mode) {
  KVEC_ASSIGN_OR_RETURN(const CublasLtLibrary* const lt, CublasLtLibrary::Open());
  KVEC_ASSIGN_OR_RETURN(auto workspace, CudaBuffer::Allocate(kWorkspaceBytes));
  cublasLtHandle_t handle = nullptr;
  KVEC_RETURN_IF_ERROR(ToStatus(*lt, lt->create(&handle), "create"));
  return std::make_unique<CublasLtProduct>(*lt, handle, stream, mode, std::move(workspace));
}

}  // namespace kvec::kernels::cuda
