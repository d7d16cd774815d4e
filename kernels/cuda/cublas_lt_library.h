#ifndef KVEC_KERNELS_CUDA_CUBLAS_LT_LIBRARY_H_
#define KVEC_KERNELS_CUDA_CUBLAS_LT_LIBRARY_H_

#include <cublasLt.h>

#include "absl/status/statusor.h"

namespace kvec::kernels::cuda {

// The functions of libcublasLt that we call. The library is opened when a CUDA device is made, not
// linked: it is 540 MB, and a worker on a CPU would start 0.1 to 0.7 s later with 150 MB more
// resident (measured), or not at all where it is not installed.
struct CublasLtLibrary {
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtDestroy) destroy;
  decltype(&cublasLtMatmul) matmul;
  decltype(&cublasLtMatmulAlgoGetHeuristic) get_heuristic;
  decltype(&cublasLtMatmulAlgoCheck) check_algorithm;
  decltype(&cublasLtMatmulDescCreate) create_operation;
  decltype(&cublasLtMatmulDescDestroy) destroy_operation;
  decltype(&cublasLtMatmulDescSetAttribute) set_operation_attribute;
  decltype(&cublasLtMatrixLayoutCreate) create_layout;
  decltype(&cublasLtMatrixLayoutDestroy) destroy_layout;
  decltype(&cublasLtMatmulPreferenceCreate) create_preference;
  decltype(&cublasLtMatmulPreferenceDestroy) destroy_preference;
  decltype(&cublasLtMatmulPreferenceSetAttribute) set_preference_attribute;
  decltype(&cublasLtGetStatusName) get_status_name;

  // Opened once per process. UNAVAILABLE, with the loader's words, when it cannot be.
  static absl::StatusOr<const CublasLtLibrary*> Open();
};

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_CUBLAS_LT_LIBRARY_H_
