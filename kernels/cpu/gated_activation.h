#ifndef KVEC_KERNELS_CPU_GATED_ACTIVATION_H_
#define KVEC_KERNELS_CPU_GATED_ACTIVATION_H_

#include "absl/status/status.h"
#include "common/model/model_config.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/tensor.h"

namespace kvec::kernels::cpu {

// out[m, n] = activation(gate) · up of gate_up[m, 2 n], gates first. INTERNAL when the shapes do
// not fit.
absl::Status GatedActivation(ThreadPool& pool, Tensor gate_up, Activation activation, Tensor out);

}  // namespace kvec::kernels::cpu

#endif  // KVEC_KERNELS_CPU_GATED_ACTIVATION_H_
