#include "kernels/cuda/cublas_lt_library.h"

#include <dlfcn.h>

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace kvec::kernels::cuda {
namespace {

absl::StatusOr<void*> OpenLibrary() {
  std::string reason;
  // As the loader finds it (LD_LIBRARY_PATH, ld.so.conf), then where the build found it.
  for (const std::string& name :
       {absl::StrCat("libcublasLt.so.", CUBLAS_VER_MAJOR),
        absl::StrCat(KVEC_CUDA_LIBRARY_DIR, "/libcublasLt.so.", CUBLAS_VER_MAJOR)}) {
    if (void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
    absl::StrAppend(&reason, reason.empty() ? "" : "; ", dlerror());
  }
  return absl::UnavailableError(absl::StrCat("cannot open cuBLASLt: ", reason));
}

template <typename Function>
absl::Status Find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function != nullptr) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("cuBLASLt has no ", name));
}

absl::StatusOr<CublasLtLibrary> Load() {
  KVEC_ASSIGN_OR_RETURN(void* const library, OpenLibrary());
  CublasLtLibrary lt;
  KVEC_RETURN_IF_ERROR(Find(library, "cublasLtCreate", lt.create));
  KVEC_RETURN_IF_ERROR(Find(library, "cublasLtDestroy", lt.destroy));
  KVEC_RETURN_IF_ERROR(Find(library, "cublasLtMatmul", lt.matmul));
  KVEC_RETURN_IF_ERROR(Find(library, "cublasLtMatmulAlgoGetHeuristic", lt.get_heuristic));
  KVEC_RETURN_IF_ERROR(Find(library, "cublasLtMatmulAlgoCheck", lt.check_algorithm));
  KVEC_RETURN_IF_ERROR(Find(library, "cublasLtMatmulDescCreate", lt.create_operation));
  KVEC_RETURN_IF_ERROR(Find(library, "cublasLtMatmulDescDestroy", lt.destroy_operation));
  KVEC_RETURN_IF_ERROR(Find(library, "cublasLtMatmulDescSetAttribute", lt.set_operation_attribute));
  KVEC_RETURN_IF_ERROR(Find(library, "cublasLtMatrixLayoutCreate", lt.create_layout));
  KVEC_RETURN_IF_ERROR(Find(library, "cublasLtMatrixLayoutDestroy", lt.destroy_layout));
  KVEC_RETURN_IF_ERROR(Find(library, "cublasLtMatmulPreferenceCreate", lt.create_preference));
  KVEC_RETURN_IF_ERROR(Find(library, "cublasLtMatmulPreferenceDestroy", lt.destroy_preference));
  KVEC_RETURN_IF_ERROR(
      Find(library, "cublasLtMatmulPreferenceSetAttribute", lt.set_preference_attribute));
  KVEC_RETURN_IF_ERROR(Find(library, "cublasLtGetStatusName", lt.get_status_name));
  return lt;
}

}  // namespace

absl::StatusOr<const CublasLtLibrary*> CublasLtLibrary::Open() {
  static const auto& library = *new absl::StatusOr<CublasLtLibrary>(Load());
  if (!library.ok()) return library.status();
  return &*library;
}

}  // namespace kvec::kernels::cuda
