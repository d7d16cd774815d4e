#include "kernels/cpu/matmul_kernels.h"

namespace kvec::kernels::cpu {

const MatMulKernels& GetMatMulKernels(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      break;
    case Isa::kAvx2:
      return Avx2MatMulKernels();
    case Isa::kAvx512:
      return Avx512MatMulKernels();
  }
  return ScalarMatMulKernels();
}

}  // namespace kvec::kernels::cpu
