#ifndef KVEC_TESTS_KERNELS_CUDA_STAND_IN_CUBLAS_LT_H_
#define KVEC_TESTS_KERNELS_CUDA_STAND_IN_CUBLAS_LT_H_

namespace kvec::kernels::cuda {

// A library with cuBLASLt's functions on the host simulator, in the place of the real one. Like
// that it chooses another algorithm for few rows than for many, which adds along K in parts where
// it may: a row's bits then depend on how many are beside it.

int NumCublasLtChoices();  // asked for so far
int NumCublasLtObjects();  // descriptors, layouts, preferences and handles that are not destroyed

}  // namespace kvec::kernels::cuda

#endif  // KVEC_TESTS_KERNELS_CUDA_STAND_IN_CUBLAS_LT_H_
