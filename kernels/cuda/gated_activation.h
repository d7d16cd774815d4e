#ifndef KVEC_KERNELS_CUDA_GATED_ACTIVATION_H_
#define KVEC_KERNELS_CUDA_GATED_ACTIVATION_H_

#include <cuda_runtime_api.h>

#include "common/model/model_config.h"
#include "kernels/tensor.h"

namespace kvec::kernels::cuda {

// out[m, n] = activation(gate) · up, gate_up[m, 2 n].
cudaError_t GatedActivation(cudaStream_t stream, Tensor gate_up, Activation activation,
                            ProductInput out);

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_GATED_ACTIVATION_H_
