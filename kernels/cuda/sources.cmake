# The kernels: plain CUDA C++, compiled for GPUs here and for the host simulator in tests/kernels/cuda.
set(KVEC_CUDA_KERNELS
  gated_activation.cu
  rms_norm.cu
  rope.cu)
list(TRANSFORM KVEC_CUDA_KERNELS PREPEND ${CMAKE_CURRENT_LIST_DIR}/)
