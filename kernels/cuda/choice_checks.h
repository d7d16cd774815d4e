#ifndef KVEC_KERNELS_CUDA_CHOICE_CHECKS_H_
#define KVEC_KERNELS_CUDA_CHOICE_CHECKS_H_

#include "absl/status/status.h"
#include "kernels/entry_chooser.h"

namespace kvec::kernels::cuda {

// INVALID_ARGUMENT for sizes and rules that CudaEntryChooser does not take.
absl::Status CheckPlan(const ChoicePlan& plan);

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_CHOICE_CHECKS_H_
