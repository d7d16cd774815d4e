# The kernels: plain CUDA C++, compiled for GPUs here and for the host simulator in tests/kernels/cuda.
set(KVEC_CUDA_KERNELS
  append_kv.cu
  decode_attention.cu
  gated_activation.cu
  gather_entries.cu
  prefill_attention.cu
  rms_norm.cu
  rope.cu
  value_norms.cu
  window_scores.cu)
list(TRANSFORM KVEC_CUDA_KERNELS PREPEND ${CMAKE_CURRENT_LIST_DIR}/)
