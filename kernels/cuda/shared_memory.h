#ifndef KVEC_KERNELS_CUDA_SHARED_MEMORY_H_
#define KVEC_KERNELS_CUDA_SHARED_MEMORY_H_

#include <cuda_runtime.h>

// Arrays in a block's shared memory:
//
//   KVEC_SHARED_ARRAY(float, tile, [16][33]);
//   KVEC_DYNAMIC_SHARED_ARRAY(float, rows);   // as large as the launch says
//
// Macros, because the host simulator (tests/cusim) brings its own, which check bounds and order.
#ifndef KVEC_SHARED_ARRAY
#define KVEC_SHARED_ARRAY(type, name, extents) __shared__ type name extents
#define KVEC_DYNAMIC_SHARED_ARRAY(type, name)                                \
  extern __shared__ __align__(32) unsigned char kvec_dynamic_shared_bytes[]; \
  type* const name = reinterpret_cast<type*>(kvec_dynamic_shared_bytes)
#endif

#endif  // KVEC_KERNELS_CUDA_SHARED_MEMORY_H_
