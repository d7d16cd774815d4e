// The host simulator's interface on a real GPU, for the tests of kernels/cuda: there is nothing to
// choose, and nothing to tell.

#include <cuda_runtime_api.h>

#include "tests/cusim/cusim.h"

namespace kvec::cusim {

void Reset(const Options& options) { (void)cudaGetLastError(); }

std::string FaultMessage() { return cudaGetErrorString(cudaPeekAtLastError()); }

}  // namespace kvec::cusim
