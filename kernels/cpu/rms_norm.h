#ifndef KVEC_KERNELS_CPU_RMS_NORM_H_
#define KVEC_KERNELS_CPU_RMS_NORM_H_

#include "absl/status/status.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/tensor.h"

namespace kvec::kernels::cpu {

// out[m, n] = x / sqrt(mean(x²) + eps) · weight[n]. out may be x. INTERNAL when the shapes differ.
absl::Status RmsNorm(ThreadPool& pool, Tensor x, const float* weight, float eps, Tensor out);

// x[m, n] += rms_norm(y[m, n]) · weight[n]. INTERNAL when the shapes differ.
absl::Status AddRmsNorm(ThreadPool& pool, Tensor y, const float* weight, float eps, Tensor x);

}  // namespace kvec::kernels::cpu

#endif  // KVEC_KERNELS_CPU_RMS_NORM_H_
