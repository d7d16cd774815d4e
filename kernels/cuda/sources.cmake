# The kernels: plain CUDA C++, compiled for GPUs here and for the host simulator in tests/kernels/cuda.
set(KVEC_CUDA_KERNELS
  append_kv.cu
  choose_entries.cu
  convert.cu
  decode_attention.cu
  gated_activation.cu
  gather_entries.cu
  head_budgets.cu
  keep_rows.cu
  pool_scores.cu
  prefill_attention.cu
  quantize_rows.cu
  rms_norm.cu
  rope.cu
  sample.cu
  scale_sums.cu
  score_rows.cu
  score_spans.cu
  tensor_prefill.cu
  top_entries.cu
  value_norms.cu
  wgmma_prefill.cu
  window_scores.cu
  write_tables.cu)
# What calls them.
set(KVEC_CUDA_DEVICE
  batch_rows.cc
  buddy_allocator.cc
  choice_checks.cc
  choice_rows.cc
  cuda_buffer.cc
  cuda_device.cc
  cuda_device_cache.cc
  cuda_entry_chooser.cc
  cuda_kv_arena.cc
  cuda_status.cc
  cuda_weight.cc
  flat_batch.cc
  graph_cache.cc
  graph_replayer.cc
  pinned_memory.cc
  rope_frequencies.cc
  sample_batch.cc
  scaled_product.cc
  step_tables.cc
  table_pool.cc
  uploader.cc
  wgmma_check.cc)
set(KVEC_CUDA_DEVICE_DEPS
  kvec_kernels_checks kvec_common_tensor absl::span absl::status absl::statusor absl::strings
  glog::glog)
list(TRANSFORM KVEC_CUDA_KERNELS PREPEND ${CMAKE_CURRENT_LIST_DIR}/)
list(TRANSFORM KVEC_CUDA_DEVICE PREPEND ${CMAKE_CURRENT_LIST_DIR}/)
