#ifndef KVEC_TESTS_CUSIM_INCLUDE_CUDA_PIPELINE_H_
#define KVEC_TESTS_CUSIM_INCLUDE_CUDA_PIPELINE_H_

// Found before the toolkit's header of this name: copies from global into shared memory that a
// thread waits for later. They happen when it waits, and no earlier: who reads before finds NaN.

#include <cstring>

#include "tests/cusim/include/cuda_runtime.h"

inline void __pipeline_memcpy_async(void* to, const void* from, size_t bytes) {
  std::memset(to, 0xFF, bytes);
  kvec::cusim::CopyLater({to, from, bytes});
}

inline void __pipeline_commit() { kvec::cusim::CommitCopies(); }

// For all but the last `prior` commits.
inline void __pipeline_wait_prior(size_t prior) {
  kvec::cusim::LateCopy copy;
  while (kvec::cusim::TakeCopy(prior, copy)) std::memcpy(copy.to, copy.from, copy.bytes);
}

#endif  // KVEC_TESTS_CUSIM_INCLUDE_CUDA_PIPELINE_H_
