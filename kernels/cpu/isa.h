#ifndef KVEC_KERNELS_CPU_ISA_H_
#define KVEC_KERNELS_CPU_ISA_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kvec::kernels::cpu {

// The instruction sets that kernels are written for; each includes the ones before it. kAvx512 means
// F, BW, DQ, VL, CD and VNNI: Ice Lake and Zen 4 on.
enum class Isa { kScalar, kAvx2, kAvx512 };

// The best that this processor has.
Isa DetectIsa();

absl::string_view IsaName(Isa isa);  // "scalar", "avx2", "avx512"

// INVALID_ARGUMENT for an unknown name; UNAVAILABLE where the processor lacks it.
absl::StatusOr<Isa> ParseIsa(absl::string_view name);

// Makes Highway's dynamic dispatch of this process choose `isa`; the CpuDevice calls it.
void RestrictHighwayTo(Isa isa);

}  // namespace kvec::kernels::cpu

#endif  // KVEC_KERNELS_CPU_ISA_H_
